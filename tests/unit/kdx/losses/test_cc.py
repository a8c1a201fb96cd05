from math import exp

import numpy as np
import pytest
import torch

from kdx.losses import CC
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, pair

SHAPES = {"student": {"a": (4, 6)}, "teacher": {"b": (4, 3, 2, 2)}}
LAYERS = {"student_layer": "a", "teacher_layer": "b"}


def test_contract():
    check_loss(lambda: CC(**LAYERS), **SHAPES)


def unit(feature):
    rows = feature.detach().numpy().reshape(4, -1)
    return rows / np.sqrt((rows**2).sum(1, keepdims=True))


def test_against_loops():
    student, teacher = pair(**SHAPES)

    def kernel(f, i, j, g=0.3):
        dot = float(f[i] @ f[j])
        return exp(-2 * g) * (1 + 2 * g * dot + (2 * g * dot) ** 2 / 2)

    own, guide = unit(student.features["a"]), unit(teacher.features["b"])
    differences = [
        (kernel(own, i, j) - kernel(guide, i, j)) ** 2 for i in range(4) for j in range(4)
    ]
    value = CC(gamma=0.3, **LAYERS)(student, teacher, TARGET)
    assert value.item() == pytest.approx(np.mean(differences), rel=1e-12)


def test_many_orders_are_the_gaussian_kernel():
    rows, zeros = torch.randn(4, 6, dtype=torch.float64), torch.zeros(4, 6, dtype=torch.float64)
    distances = torch.cdist(*2 * [torch.nn.functional.normalize(rows)])
    gaussian = (-0.4 * distances**2).exp()
    value = CC(order=20, **LAYERS)(Outputs(rows, {"a": rows}), Outputs(rows, {"b": zeros}), TARGET)
    assert value.item() == pytest.approx((gaussian - exp(-0.8)).square().mean().item(), rel=1e-10)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"gamma": -1}, "gamma: -1 is not a finite number"), ({"order": 0}, r"order: 0 is not in 1")],
)
def test_settings_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        CC(**given, **LAYERS)
