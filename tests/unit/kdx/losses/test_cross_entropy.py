from math import log

import numpy as np
import pytest
import torch

from kdx.losses import CrossEntropy
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs


def test_contract():
    check_loss(CrossEntropy)
    check_loss(lambda: CrossEntropy(label_smoothing=0.1))


def test_equal_logits_cost_the_log_of_the_classes():
    value = CrossEntropy()(Outputs(torch.zeros(4, 5, dtype=torch.float64)), None, TARGET)
    assert value.item() == pytest.approx(log(5), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_against_numpy(smoothing):
    student = outputs({}, dtype=torch.float64)
    logits = student.logits.detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = (1 - smoothing) * np.eye(5)[TARGET] + smoothing / 5
    expected = -(wanted * np.log(p)).sum(1).mean()
    value = CrossEntropy(label_smoothing=smoothing)(student, None, TARGET)
    assert value.item() == pytest.approx(expected, abs=1e-12)


def test_gradient_reaches_the_student_alone():
    student, teacher = outputs({}), outputs({}, seed=1)
    CrossEntropy()(student, teacher, TARGET).backward()
    expected = (student.logits.softmax(1) - torch.eye(5)[TARGET]) / 4
    torch.testing.assert_close(student.logits.grad, expected)
    assert teacher.logits.grad is None


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match=rf"label_smoothing: {smoothing} is not in \[0, 1\)"):
        CrossEntropy(label_smoothing=smoothing)
