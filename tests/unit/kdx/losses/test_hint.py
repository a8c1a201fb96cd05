from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdx.losses import Hint
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs

hint = partial(Hint, student_layer="a", teacher_layer="b")


def pair(student, teacher, **how):
    return outputs({"a": student}, **how), outputs({"b": teacher}, seed=1, **how)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((4, 6), (4, 7)),
        ((4, 6, 5, 5), (4, 7, 3, 2)),
        ((4, 10, 6), (4, 7, 3, 3)),
        ((4, 6), (4, 7, 3, 3)),
    ],
)
def test_contract(student, teacher, reduction):
    make = partial(hint, reduction=reduction)
    check_loss(make, student={"a": student}, teacher={"b": teacher}, may_overflow=True)


def test_unit_distance():
    student = Outputs(torch.zeros(4, 5), {"a": torch.zeros(4, 6)})
    teacher = Outputs(torch.zeros(4, 5), {"b": torch.ones(4, 6)})
    assert hint(regressor=False)(student, teacher, TARGET) == 1
    assert hint(regressor=False, reduction="sum")(student, teacher, TARGET) == 6


def test_maps_against_a_reference():
    student, teacher = pair((4, 6, 5, 5), (4, 7, 3, 3), dtype=torch.float64)
    loss, total = hint(), hint(reduction="sum")
    value = loss(student, teacher, TARGET)
    total(student, teacher, TARGET)
    total.load_state_dict(loss.state_dict())
    weight = loss.state_dict()["regressor.weight"]
    pooled = F.adaptive_avg_pool2d(student.features["a"], 3)
    mapped = torch.einsum("bchw,oc->bohw", pooled, weight[:, :, 0, 0])
    expected = F.mse_loss(mapped, teacher.features["b"])
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(total(student, teacher, TARGET), expected * 7 * 3 * 3)


def test_the_larger_map_is_pooled_on_either_side():
    student, teacher = pair((4, 6, 2, 4), (4, 6, 4, 2))
    value = hint(regressor=False)(student, teacher, TARGET)
    halves = student.features["a"].unflatten(3, (2, 2)).mean(4)
    other = teacher.features["b"].unflatten(2, (2, 2)).mean(3)
    torch.testing.assert_close(value, (halves - other).square().mean())


def test_a_map_against_a_vector_is_averaged():
    student, teacher = pair((4, 6), (4, 6, 3, 3))
    value = hint(regressor=False)(student, teacher, TARGET)
    mean = teacher.features["b"].mean((2, 3))
    torch.testing.assert_close(value, (student.features["a"] - mean).square().mean())


def test_tokens_against_a_map_lose_the_class_token():
    student, teacher = pair((4, 6, 2, 2), (4, 5, 6))
    value = hint(regressor=False)(student, teacher, TARGET)
    rows = student.features["a"].flatten(2).transpose(1, 2)
    torch.testing.assert_close(value, (rows - teacher.features["b"][:, 1:]).square().mean())


@pytest.mark.parametrize(
    ("tokens", "grid"), [(8, (2, 4)), (33, (4, 8)), (36, (6, 6)), (196, (14, 14))]
)
def test_tokens_against_a_map_that_is_not_square_are_the_grid_that_fits(tokens, grid):
    """Eight are 2 x 4, not 2 x 2 behind four that lead; 196 are of a teacher's square image."""
    student, teacher = pair((4, 6, 2, 4), (4, tokens, 6))
    maps = teacher.features["b"][:, tokens - grid[0] * grid[1] :].transpose(1, 2)
    grid = F.adaptive_avg_pool2d(maps.unflatten(2, grid), (2, 4))
    expected = (student.features["a"] - grid).square().mean()
    torch.testing.assert_close(hint(regressor=False)(student, teacher, TARGET), expected)


@pytest.mark.parametrize(
    ("student", "teacher", "kind"),
    [
        ((4, 6), (4, 7), nn.Linear),
        ((4, 3, 6), (4, 3, 7), nn.Linear),
        ((4, 6, 2, 2), (4, 7, 2, 2), nn.Conv2d),
    ],
)
def test_regressor_is_one_bias_free_linear_map(student, teacher, kind):
    loss = hint()
    assert not list(loss.parameters())
    loss(*pair(student, teacher, dtype=torch.float64), TARGET)
    (weight,) = loss.parameters()
    assert type(loss.regressor) is kind
    assert weight.shape[:2] == (7, 6)
    assert weight.numel() == 42
    assert weight.dtype == torch.float64


def test_gradient_reaches_the_student_and_the_regressor_alone():
    student, teacher = pair((4, 6), (4, 7))
    loss = hint()
    loss(student, teacher, TARGET).backward()
    (weight,) = loss.parameters()
    error = 2 * (student.features["a"] @ weight.T - teacher.features["b"]) / (4 * 7)
    torch.testing.assert_close(student.features["a"].grad, error @ weight)
    torch.testing.assert_close(weight.grad, error.T @ student.features["a"])
    assert teacher.features["b"].grad is None


def test_refusals():
    with pytest.raises(ValueError, match="reduction: 'max' is not one of 'mean', 'sum'"):
        hint(reduction="max")
    with pytest.raises(ValueError, match="hint needs a teacher: add a `teacher:` section"):
        hint()(outputs({"a": (4, 6)}), None, TARGET)
    with pytest.raises(ValueError, match=r"'a', teacher 'b': 6 and 7 channels: set `regressor"):
        hint(regressor=False)(*pair((4, 6), (4, 7)), TARGET)
    with pytest.raises(
        ValueError, match=r"tokens \(4, 35, 7\) .* not a square grid: 35 is 5 x 5 and 10"
    ):
        hint(regressor=False)(*pair((4, 6, 2, 2), (4, 35, 7)), TARGET)
    with pytest.raises(ValueError, match=r"tokens \(4, 16, 7\) .* a grid of 2 x 8 or 4 x 4, which"):
        hint(regressor=False)(*pair((4, 6, 1, 4), (4, 16, 7)), TARGET)
    with pytest.raises(ValueError, match=r"student 'a', teacher 'b': \(4, 2, 2, 2, 2\) is not \[B"):
        hint()(*pair((4, 2, 2, 2, 2), (4, 7)), TARGET)


def test_other_channels_later():
    loss = hint()
    loss(*pair((4, 6), (4, 7)), TARGET)
    for student, teacher in [((4, 5), (4, 7)), ((4, 6), (4, 8))]:
        with pytest.raises(ValueError, match="but the regressor was made for 6 and 7"):
            loss(*pair(student, teacher), TARGET)
