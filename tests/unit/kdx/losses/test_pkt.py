import numpy as np
import pytest
import torch

from kdx.losses import PKT
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs

SHAPES = {"student": {"fc1": (4, 6)}, "teacher": {"pool": (4, 3, 2, 2)}}


def pkt():
    return PKT(student_layer="fc1", teacher_layer="pool")


def pair(**how):
    return outputs(SHAPES["student"], **how), outputs(SHAPES["teacher"], seed=1, **how)


def test_contract():
    check_loss(pkt, **SHAPES)


def test_zero_where_the_angles_agree():
    student, _ = pair(dtype=torch.float64)
    rows = student.features["fc1"].detach()
    scaled_and_turned = torch.cat([rows * 0, rows * torch.tensor([[1], [2], [30], [0.4]])], dim=1)
    teacher = Outputs(student.logits, {"pool": scaled_and_turned})
    assert pkt()(student, teacher, TARGET).item() == pytest.approx(0, abs=1e-14)


def test_against_numpy():
    student, teacher = pair(dtype=torch.float64)

    def kernel(x):
        x = x.detach().numpy().reshape(4, -1)
        x = x / np.sqrt((x**2).sum(1, keepdims=True))
        k = (x @ x.T + 1) / 2
        return k / k.sum(1, keepdims=True)

    t, s = kernel(teacher.features["pool"]), kernel(student.features["fc1"])
    expected = np.mean(t * np.log((t + 1e-7) / (s + 1e-7)))
    assert pkt()(student, teacher, TARGET).item() == pytest.approx(expected, abs=1e-12)


def test_gradient_reaches_the_student_alone():
    student, teacher = pair(dtype=torch.float64)
    value = pkt()(student, teacher, TARGET)
    value.backward()
    rows = student.features["fc1"]
    assert teacher.features["pool"].grad is None
    along = (rows * rows.grad).sum(1)  # the cosine does not see a row's length
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-12, rtol=0)
    closer = Outputs(student.logits, {"fc1": (rows - 0.1 * rows.grad).detach()})
    assert pkt()(closer, teacher, TARGET) < value


def test_gradient_against_differences():
    _, teacher = pair(dtype=torch.float64)

    def value(rows):
        return pkt()(Outputs(teacher.logits, {"fc1": rows}), teacher, TARGET)

    assert torch.autograd.gradcheck(value, (pair(dtype=torch.float64)[0].features["fc1"],))


@pytest.mark.parametrize("scale", [1e-9, 1e30])
def test_the_features_scale_does_not_count(scale):
    student, teacher = pair()
    scaled = Outputs(student.logits, {"fc1": student.features["fc1"] * scale})
    torch.testing.assert_close(pkt()(scaled, teacher, TARGET), pkt()(student, teacher, TARGET))


def test_opposite_rows_survive_rounding():
    torch.manual_seed(57)  # here the cosine is rounded below -1
    row = torch.randn(1, 512)
    student = Outputs(torch.zeros(2, 5), {"fc1": torch.cat([row, -row])})
    teacher = Outputs(torch.zeros(2, 5), {"pool": torch.eye(2)})
    value = pkt()(student, teacher, TARGET[:2])
    t, s = torch.tensor([2 / 3, 1 / 3]), torch.tensor([1.0, 1e-7])
    torch.testing.assert_close(value, (t * (t / s).log()).mean(), rtol=0.1, atol=0)


def test_a_silent_row_has_a_small_gradient():
    student, teacher = pair()
    with torch.no_grad():
        student.features["fc1"][2] = 0
    pkt()(student, teacher, TARGET).backward()
    assert student.features["fc1"].grad.abs().max() < 1


def test_needs_a_teacher():
    with pytest.raises(ValueError, match="pkt needs a teacher: add a `teacher:` section"):
        pkt()(pair()[0], None, TARGET)


def test_batchmean_keeps_its_size_when_a_batch_is_cut():
    torch.manual_seed(0)
    student, teacher = torch.randn(64, 8), torch.randn(64, 8)

    def value(reduction, parts):
        loss = PKT(student_layer="fc1", teacher_layer="pool", reduction=reduction)
        pairs = zip(student.chunk(parts), teacher.chunk(parts), strict=True)
        values = [loss(Outputs(s, {"fc1": s}), Outputs(t, {"pool": t}), TARGET) for s, t in pairs]
        return float(sum(values) / parts)

    assert value("batchmean", 1) == pytest.approx(64 * value("mean", 1))
    assert value("batchmean", 8) == pytest.approx(value("batchmean", 1), rel=0.4)
    assert value("mean", 8) > 6 * value("mean", 1)
    with pytest.raises(ValueError, match="reduction: 'sum' is not one of 'mean', 'batchmean'"):
        PKT(student_layer="fc1", teacher_layer="pool", reduction="sum")
