import numpy as np
import pytest
import torch

from kdx.losses import AT
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs

SHAPES = {"student": {"a": (4, 3, 4, 4)}, "teacher": {"b": (4, 6, 2, 3)}}
LAYERS = {"student_layer": "a", "teacher_layer": "b"}


@pytest.mark.parametrize("p", [1, 2, 3])
def test_contract(p):
    check_loss(lambda: AT(p=p, **LAYERS), **SHAPES)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_against_numpy(p):
    shapes = {"a": (4, 3, 2, 5)}, {"b": (4, 6, 2, 5)}
    student, teacher = (outputs(s, seed=i, dtype=torch.float64) for i, s in enumerate(shapes))

    def attention(feature):
        q = (np.abs(feature.detach().numpy()) ** p).sum(1).reshape(4, -1)
        return q / np.sqrt((q**2).sum(1, keepdims=True))

    expected = ((attention(student.features["a"]) - attention(teacher.features["b"])) ** 2).mean()
    value = AT(p=p, **LAYERS)(student, teacher, TARGET)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_one_bright_position_each():
    own, guide = torch.zeros(2, 1, 3, 2, 2)
    own[0, 0, 0, 0], guide[0, 1, 1, 1] = 3, 5
    value = AT(**LAYERS)(Outputs(own, {"a": own}), Outputs(own, {"b": guide}), TARGET)
    assert value.item() == pytest.approx(2 / 4)


def test_powers_below_1_are_refused():
    with pytest.raises(ValueError, match=r"p: 0.5 is not in \[1, 100\]"):
        AT(p=0.5, **LAYERS)


def test_the_value_of_an_image_does_not_depend_on_the_others_of_its_batch():
    """At p = 8 an image that is a thousandth of another's size would vanish beside it."""
    pairs = [outputs({"a": (4, 3, 4, 4), "b": (4, 3, 4, 4)}, seed=seed) for seed in (0, 1)]
    sizes = torch.tensor([1e3, 1.0, 1e-3, 1.0])[:, None, None, None]
    features = [{"a": p.features["a"] * sizes, "b": p.features["b"]} for p in pairs]
    loss = AT(student_layer="a", teacher_layer="b", p=8)
    given = [Outputs(p.logits, f) for p, f in zip(pairs, features, strict=True)]
    alone = [
        loss(*(Outputs(o.logits[i : i + 1], {k: v[i : i + 1] for k, v in o.features.items()})
               for o in given), TARGET[i : i + 1])
        for i in range(4)
    ]  # fmt: skip
    torch.testing.assert_close(loss(*given, TARGET), torch.stack(alone).mean())
