import numpy as np
import pytest
import torch

from kdx.losses import DIST, DKD, KD, NKD, WTTM
from kdx.losses.logits import others, standardized
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs, pair


def test_standardized_against_numpy():
    logits = torch.randn(4, 5, dtype=torch.float64)
    rows = logits.numpy()
    deviation = rows.std(1, ddof=1, keepdims=True)
    expected = (rows - rows.mean(1, keepdims=True)) / (deviation + 1e-7)
    np.testing.assert_allclose(standardized(logits), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1e4, 1e30])
def test_scale_and_shift_do_not_count(scale):
    logits = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(
        standardized(scale * (logits + 3)), standardized(logits), rtol=1e-3, atol=0
    )


def test_equal_logits_give_zeros_and_a_finite_gradient():
    logits = torch.full((2, 5), 7.0, requires_grad=True)
    (standardized(logits) * torch.arange(5.0)).sum().backward()
    assert standardized(logits).abs().max() == 0
    assert logits.grad.isfinite().all()


def test_standardized_kd_is_kd_of_standardized_logits():
    student, teacher = pair()
    value = KD(temperature=2, standardize=True)(student, teacher, TARGET)
    rows = (Outputs(standardized(each.logits)) for each in (student, teacher))
    assert value.item() == pytest.approx(KD(temperature=2)(*rows, TARGET).item(), rel=1e-12)
    check_loss(lambda: KD(standardize=True))


def test_others_are_all_classes_but_the_target():
    logits = torch.arange(20.0).view(4, 5)
    assert others(logits, TARGET).tolist()[:2] == [[1, 2, 3, 4], [5, 6, 7, 9]]


@pytest.mark.parametrize("make", [DIST, DKD, KD, NKD, WTTM])
def test_standardised_logits_of_two_classes_are_refused(make):
    """They are 0.707 and -0.707, whatever the network says."""
    pair = [outputs({}, logits=(4, 2), seed=seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"standardize: of 2 classes standardised log"):
        make(standardize=True)(*pair, torch.tensor([0, 1, 1, 0]))
