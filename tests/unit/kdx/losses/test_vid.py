import numpy as np
import pytest
import torch

from kdx.losses import VID
from tests.contracts import TARGET, check_loss, outputs, pair

SHAPES = {"student": {"a": (4, 3, 4, 4)}, "teacher": {"b": (4, 6, 4, 4)}}
LAYERS = {"student_layer": "a", "teacher_layer": "b"}


def test_contract():
    check_loss(lambda: VID(**LAYERS), **SHAPES, may_overflow=True)


def test_against_loops():
    student, teacher = pair(**SHAPES)
    loss = VID(**LAYERS)
    loss(student, teacher, TARGET)
    torch.nn.init.normal_(loss.regressor.a)
    mean = loss.regressor.mean(student.features["a"]).detach().numpy()
    t, terms = teacher.features["b"].detach().numpy(), []
    for c, a in enumerate(loss.regressor.a.flatten().tolist()):
        variance = np.log1p(np.exp(a)) + 1e-5
        terms.append(((t[:, c] - mean[:, c]) ** 2 / variance + np.log(variance)) / 2)
    value = loss(student, teacher, TARGET)
    assert value.item() == pytest.approx(np.mean(terms), rel=1e-12)


def test_the_variance_starts_at_5_and_is_learned():
    student, teacher = outputs(SHAPES["student"]), outputs(SHAPES["teacher"], seed=1)
    loss = VID(**LAYERS)
    loss(student, teacher, TARGET).backward()
    _, variance = loss.regressor(student.features["a"])
    torch.testing.assert_close(variance, torch.full((6, 1, 1), 5.0))
    assert loss.regressor.a.grad.any()
    assert "regressor.a" in loss.state_dict()
