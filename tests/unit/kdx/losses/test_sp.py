import numpy as np
import pytest
import torch

from kdx.losses import SP
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, pair

SHAPES = {"student": {"a": (4, 6)}, "teacher": {"b": (4, 3, 2, 2)}}
LAYERS = {"student_layer": "a", "teacher_layer": "b"}


def test_contract():
    check_loss(lambda: SP(**LAYERS), **SHAPES)


def test_against_numpy():
    student, teacher = pair(**SHAPES)

    def similarities(feature):
        rows = feature.detach().numpy().reshape(4, -1)
        g = rows @ rows.T
        return g / np.sqrt((g**2).sum(1, keepdims=True))

    own, guide = similarities(student.features["a"]), similarities(teacher.features["b"])
    expected = ((own - guide) ** 2).sum() / 4**2
    assert SP(**LAYERS)(student, teacher, TARGET).item() == pytest.approx(expected, rel=1e-12)


def test_turned_and_scaled_features_are_the_same():
    rows = torch.randn(4, 6, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    pair = Outputs(rows, {"a": rows}), Outputs(rows, {"b": 1e20 * rows @ turn})
    assert SP(**LAYERS)(*pair, TARGET).item() == pytest.approx(0, abs=1e-25)
