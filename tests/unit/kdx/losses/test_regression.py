import pytest
import torch

from kdx.losses import L1, MSE, SmoothL1
from kdx.protocols import Outputs

G = torch.Generator().manual_seed(0)
OWN, GOAL, TAUGHT = torch.randn(3, 6, 2, generator=G, dtype=torch.float64) * 2


def huber(e, beta):
    return torch.where(e.abs() < beta, e**2 / (2 * beta), e.abs() - beta / 2)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (MSE, lambda e: e**2),
        (L1, lambda e: e.abs()),
        (SmoothL1, lambda e: huber(e, 1.0)),
        (lambda **to: SmoothL1(beta=0.3, **to), lambda e: huber(e, 0.3)),
    ],
)
def test_means_of_the_errors(loss, formula):
    own, teacher = OWN.clone().requires_grad_(), TAUGHT.clone().requires_grad_()
    found = loss()(Outputs(own), None, GOAL)
    assert found.item() == pytest.approx(formula(OWN - GOAL).mean().item())
    taught = loss(to="teacher")(Outputs(own), Outputs(teacher), GOAL)
    assert taught.item() == pytest.approx(formula(OWN - TAUGHT).mean().item())
    (found + taught).backward()
    assert own.grad.any()
    assert teacher.grad is None


def test_refusals():
    with pytest.raises(ValueError, match="to: 'truth' is not one of 'target', 'teacher'"):
        MSE(to="truth")
    with pytest.raises(ValueError, match="beta: 0 is not a finite number above 0"):
        SmoothL1(beta=0)
    with pytest.raises(ValueError, match="l1 needs a teacher"):
        L1(to="teacher")(Outputs(OWN), None, GOAL)
    with pytest.raises(
        ValueError, match=r"mse: outputs \[6, 2\] do not fit the target's int64 \[6\]"
    ):
        MSE()(Outputs(OWN), None, torch.zeros(6).long())
    with pytest.raises(ValueError, match=r"do not fit the teacher's float64 \[6, 1\]"):
        MSE(to="teacher")(Outputs(OWN), Outputs(GOAL[:, :1]), GOAL)


def test_targets_are_not_rounded_to_the_precision_of_the_outputs():
    half = Outputs(torch.ones(2, 1, dtype=torch.bfloat16))
    assert MSE()(half, None, torch.full((2, 1), 1.003)).item() == pytest.approx(9e-6, rel=1e-3)
    tiny = Outputs(torch.ones(2, 1, dtype=torch.float16))
    assert MSE()(tiny, None, torch.full((2, 1), 1e5)).item() == pytest.approx(1e10, rel=1e-3)
