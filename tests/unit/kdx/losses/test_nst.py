import numpy as np
import pytest
import torch

from kdx.losses import NST
from tests.contracts import TARGET, check_loss, outputs

LAYERS = {"student_layer": "a", "teacher_layer": "b"}
SHAPES = [
    ({"a": (4, 3, 2, 2)}, {"b": (4, 6, 2, 2)}),  # more channels than positions
    ({"a": (4, 3, 4, 3)}, {"b": (4, 2, 4, 3)}),  # more positions than channels
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_contract(shapes):
    check_loss(lambda: NST(**LAYERS), student=shapes[0], teacher=shapes[1])


@pytest.mark.parametrize("shapes", SHAPES)
def test_against_loops(shapes):
    student, teacher = (outputs(s, seed=i, dtype=torch.float64) for i, s in enumerate(shapes))
    features = student.features["a"], teacher.features["b"]
    values = []
    for own, guide in zip(*(f.detach().flatten(2).numpy() for f in features), strict=True):
        s, t = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (own, guide))

        def mean(first, second):
            return np.mean([(a @ b) ** 2 for a in first for b in second])

        values.append(mean(t, t) + mean(s, s) - 2 * mean(s, t))
    value = NST(**LAYERS)(student, teacher, TARGET)
    assert value.item() == pytest.approx(np.mean(values), rel=1e-11)


def test_the_order_of_the_channels_does_not_count():
    student = outputs(SHAPES[0][0], dtype=torch.float64)
    turned = {"b": student.features["a"][:, [2, 0, 1]]}
    value = NST(**LAYERS)(student, type(student)(student.logits, turned), TARGET)
    assert value.item() == pytest.approx(0, abs=1e-25)
