import pytest
import torch

from kdx.losses import MGD
from tests.contracts import TARGET, outputs, pair

SHAPES = {"student": {"a": (4, 3, 4, 4)}, "teacher": {"b": (4, 6, 4, 4)}}
LAYERS = {"student_layer": "a", "teacher_layer": "b"}


def made(**given):
    loss = MGD(**given, **LAYERS).double()
    student, teacher = pair(**SHAPES)
    loss(student, teacher, TARGET)
    return loss, student, teacher


def test_without_a_mask_it_is_the_distance_to_what_is_restored():
    loss, student, teacher = made(mask=0)
    restored = loss.regressor.generate(loss.regressor.align(student.features["a"]))
    squares = (restored - teacher.features["b"]) ** 2
    expected = sum(each.sum().item() for each in squares) / 4
    assert loss(student, teacher, TARGET).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("over", "axes"), [("channels", (2, 3)), ("positions", (1,))])
def test_whole_channels_or_positions_are_masked(over, axes):
    loss, student, teacher = made(mask=0.5, over=over)
    seen = []
    loss.regressor.generate.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss(student, teacher, TARGET)
    hidden = seen[0] == 0
    assert torch.equal(hidden.all(axes), hidden.any(axes))
    assert 0.2 < hidden.double().mean() < 0.8


def test_the_generator_decides_and_gradients_reach_the_student_alone():
    loss, student, teacher = made(mask=0.5)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(loss(student, teacher, TARGET))
    assert values[0] == values[1] != values[2]
    values[0].backward()
    assert student.features["a"].grad.any()
    assert teacher.features["b"].grad is None
    assert all(p.grad is not None for p in loss.parameters())


def test_equal_widths_need_no_alignment():
    pair = [outputs({"a": (4, 3, 2, 2), "b": (4, 3, 2, 2)}, seed=seed) for seed in (0, 1)]
    loss = MGD(**LAYERS)
    loss(*pair, TARGET)
    assert not list(loss.regressor.align.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [({"mask": 1}, r"mask: 1 is not in"), ({"over": "x"}, r"over: 'x' is not")],
)
def test_settings_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        MGD(**given, **LAYERS)
