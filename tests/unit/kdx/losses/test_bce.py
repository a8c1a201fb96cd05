import pytest
import torch
import torch.nn.functional as F

from kdx.losses import BCE, BCEKD
from kdx.protocols import Outputs

G = torch.Generator().manual_seed(0)
LOGITS = torch.randn(5, 4, generator=G, dtype=torch.float64)
TARGET = (torch.rand(5, 4, generator=G) > 0.5).double()


def value(loss, logits=LOGITS, target=TARGET):
    return loss(Outputs(logits), None, target)


def test_without_unknown_labels_it_is_torchs():
    assert value(BCE()) == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS, TARGET).item())
    weight = [1.0, 2.0, 0.0, 5.0]
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight).double())(LOGITS, TARGET)
    assert value(BCE(pos_weight=weight)) == pytest.approx(expected.item())


def test_unknown_labels_do_not_count():
    target = TARGET.clone()
    target[0, 1:], target[1] = -1, -1
    each = [
        F.binary_cross_entropy(LOGITS[n][known].sigmoid(), target[n][known]).item()
        for n in (0, 2, 3, 4)
        for known in [target[n] >= 0]
    ]
    logits = LOGITS.clone().requires_grad_()
    loss = value(BCE(), logits, target)
    assert loss.item() == pytest.approx(sum(each) / 5)
    loss.backward()
    assert torch.equal(logits.grad[0] != 0, torch.tensor([True, False, False, False]))
    assert not logits.grad[1].any()


def test_balanced_weights_are_of_the_training_labels():
    loss = BCE(pos_weight="balanced", label_shares=[0.5, 0.1, 0.0, 1.0])
    assert loss.pos_weight == pytest.approx([1, 9, 1, 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised(dtype):
    assert value(BCE(), LOGITS.to(dtype)).dtype == torch.float32


def test_refusals():
    with pytest.raises(ValueError, match="pos_weight: 'balanced': must be a list of numbers, or"):
        BCE(pos_weight="balanced")
    with pytest.raises(ValueError, match="pos_weight: -1"):
        BCE(pos_weight=[1, -1])
    with pytest.raises(ValueError, match="pos_weight: 2 weights for 4 labels"):
        value(BCE(pos_weight=[1, 1]))
    with pytest.raises(ValueError, match=r"bce: targets int64 \[5\] do not fit .*`cross_entropy`"):
        value(BCE(), target=torch.zeros(5).long())
    with pytest.raises(ValueError, match="bce: the logits"):
        value(BCE(num_classes=3))


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_distillation_is_the_divergence_of_each_labels_two_probabilities(t):
    teacher = torch.randn(5, 4, generator=G, dtype=torch.float64)
    p, q = (torch.distributions.Bernoulli(logits=z / t) for z in (teacher, LOGITS))
    expected = t**2 * torch.distributions.kl_divergence(p, q).mean()
    student, guide = LOGITS.clone().requires_grad_(), teacher.clone().requires_grad_()
    loss = BCEKD(temperature=t)(Outputs(student), Outputs(guide), TARGET)
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    slope = t * ((LOGITS / t).sigmoid() - (teacher / t).sigmoid()) / LOGITS.numel()
    torch.testing.assert_close(student.grad, slope)
    assert guide.grad is None
    assert BCEKD(temperature=t)(Outputs(LOGITS), Outputs(LOGITS), TARGET) == 0


def test_distillation_refusals():
    with pytest.raises(ValueError, match="temperature: 0 is not"):
        BCEKD(temperature=0)
    with pytest.raises(ValueError, match="bce_kd needs a teacher"):
        value(BCEKD())
    with pytest.raises(
        ValueError, match=r"bce_kd: the student's logits are \[5, 4\], the teacher's"
    ):
        BCEKD()(Outputs(LOGITS), Outputs(LOGITS[:, :2]), TARGET)
    with pytest.raises(ValueError, match="bce_kd: the logits"):
        BCEKD(num_classes=3)(Outputs(LOGITS), Outputs(LOGITS), TARGET)
