import numpy as np
import pytest
import torch

from kdx.losses import RKD
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs, pair

SHAPES = {"student": {"a": (4, 6)}, "teacher": {"b": (4, 3, 2, 2)}}
LAYERS = {"student_layer": "a", "teacher_layer": "b"}


@pytest.mark.parametrize("weights", [{}, {"angle": 0}, {"distance": 0}])
def test_contract(weights):
    check_loss(lambda: RKD(**weights, **LAYERS), **SHAPES)


def huber(difference):
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def distances(rows):
    d = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
    return d / d[d > 0].mean()


def angles(rows):
    def unit(v):
        return v / np.linalg.norm(v) if v.any() else v

    return np.array(
        [[[unit(a - b) @ unit(c - b) for c in rows] for a in rows] for b in rows]
    ).reshape(-1)


@pytest.mark.parametrize("weights", [(25, 0), (0, 50), (1, 2)])
def test_against_loops(weights):
    student, teacher = pair(**SHAPES)
    features = student.features["a"], teacher.features["b"]
    own, guide = (each.detach().numpy().reshape(4, -1) for each in features)
    expected = 0.0
    for weight, relation in zip(weights, (distances, angles), strict=True):
        pairs = zip(relation(own).flat, relation(guide).flat, strict=True)
        expected += weight * np.mean([huber(a - b) for a, b in pairs])
    loss = RKD(distance=weights[0], angle=weights[1], **LAYERS)
    assert loss(student, teacher, TARGET).item() == pytest.approx(expected, rel=1e-12)


def test_moved_turned_and_scaled_features_are_the_same():
    rows = torch.randn(4, 6, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    pair = Outputs(rows, {"a": rows}), Outputs(rows, {"b": 30 * rows @ turn + 2})
    assert RKD(**LAYERS)(*pair, TARGET).item() == pytest.approx(0, abs=1e-20)


def test_equal_samples_have_finite_gradients():
    rows = torch.randn(3, 6)[[0, 0, 1, 2]].requires_grad_()
    teacher = Outputs(rows, {"b": torch.randn(4, 6)})
    RKD(**LAYERS)(Outputs(rows, {"a": rows}), teacher, TARGET).backward()
    assert rows.grad.isfinite().all()
    assert rows.grad.abs().max() < 1e3


def test_too_many_angles_are_refused_with_their_size(monkeypatch):
    monkeypatch.setattr("kdx.losses.rkd.MOST", 95)
    pair = outputs(SHAPES["student"]), outputs(SHAPES["teacher"])
    message = r"rkd: student 'a', teacher 'b': angle: 4 samples of 6 features need a tensor of 96"
    with pytest.raises(ValueError, match=message):
        RKD(**LAYERS)(*pair, TARGET)
    RKD(angle=0, **LAYERS)(*pair, TARGET)


def test_no_weight_is_refused():
    with pytest.raises(ValueError, match="distance, angle: both are 0"):
        RKD(distance=0, angle=0, **LAYERS)
