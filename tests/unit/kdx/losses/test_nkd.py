import numpy as np
import pytest
import torch

from kdx.losses import NKD
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs, pair
from tests.unit.kdx.losses.test_dkd import softmax


def test_contract():
    check_loss(NKD, may_overflow=True)
    check_loss(lambda: NKD(standardize=True))


def test_against_loops():
    student, teacher = pair()
    t, values = 2.0, []
    for own, guide, y in zip(student.logits, teacher.logits, TARGET.tolist(), strict=True):
        s, g = own.detach().numpy(), guide.detach().numpy()
        hit = softmax(g)[y] * np.log(softmax(s)[y])
        rest = softmax(np.delete(g, y) / t) * np.log(softmax(np.delete(s, y) / t))
        values.append(-hit - 1.5 * t**2 * rest.sum())
    value = NKD(temperature=t)(student, teacher, TARGET)
    assert value.item() == pytest.approx(np.mean(values), rel=1e-12)


def test_without_others_it_is_cross_entropy_with_a_sure_teacher():
    student = outputs({}, dtype=torch.float64)
    teacher = outputs({}, dtype=torch.float64)
    sure = torch.full_like(teacher.logits, -1e3).scatter(1, TARGET[:, None], 1e3)
    value = NKD(gamma=0)(student, type(teacher)(sure), TARGET)
    expected = torch.nn.functional.cross_entropy(student.logits, TARGET)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_class_that_both_networks_exclude_counts_nothing():
    student, teacher = (torch.randn(4, 5, dtype=torch.float64) for _ in range(2))
    known = [Outputs(each[:, :4]) for each in (student, teacher)]
    masked = [
        Outputs(each.index_fill(1, torch.tensor([4]), -torch.inf)) for each in (student, teacher)
    ]
    target = torch.tensor([0, 3, 1, 2])
    assert NKD()(*masked, target).item() == pytest.approx(NKD()(*known, target).item(), rel=1e-12)
