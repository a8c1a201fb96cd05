import numpy as np
import pytest
import torch

from kdx.losses import TfKD
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs
from tests.unit.kdx.losses.test_dkd import softmax


def test_contract():
    check_loss(TfKD)


def test_against_loops():
    student = outputs({}, dtype=torch.float64)
    t, correct, values = 5.0, 0.9, []
    for own, y in zip(student.logits, TARGET.tolist(), strict=True):
        classes = len(own)
        made = [correct if c == y else (1 - correct) / (classes - 1) for c in range(classes)]
        p, q = softmax(np.array(made) / t), softmax(own.detach().numpy())
        values.append(sum(p[c] * np.log(p[c] / q[c]) for c in range(classes)))
    value = TfKD(temperature=t, correct=correct)(student, None, TARGET)
    assert value.item() == pytest.approx(np.mean(values), rel=1e-12)


def test_by_hand():
    """Two classes, T 1, correct 0.75: the made logits differ by 1/2, the student's by 0."""
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    value = TfKD(temperature=1, correct=0.75)(Outputs(logits), None, torch.tensor([1]))
    p = 1 / (1 + np.exp(-0.5))
    assert value.item() == pytest.approx(np.log(2) + p * np.log(p) + (1 - p) * np.log(1 - p))
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.tolist() == [pytest.approx([p - 0.5, 0.5 - p])]


@pytest.mark.parametrize("correct", [0, 1, -1, float("nan")])
def test_the_probability_of_the_label_is_checked(correct):
    with pytest.raises(ValueError, match=r"correct: .* is not between 0 and 1"):
        TfKD(correct=correct)


@pytest.mark.parametrize("shape", [(2, 1), (2, 3, 4, 4)])
def test_other_logits_are_refused(shape):
    with pytest.raises(ValueError, match=r"tf_kd: needs logits \[B, C\] of two classes or more"):
        TfKD()(Outputs(torch.zeros(shape)), None, torch.zeros(2, dtype=torch.long))
