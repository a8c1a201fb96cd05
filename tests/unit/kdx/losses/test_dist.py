import numpy as np
import pytest
import torch

from kdx.losses import DIST
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, pair
from tests.unit.kdx.losses.test_dkd import softmax


def test_contract():
    check_loss(lambda: DIST(temperature=4))
    check_loss(lambda: DIST(standardize=True))
    dense = {"logits": (4, 5, 3, 2), "target": torch.zeros(4, 3, 2, dtype=torch.int64)}
    check_loss(DIST, **dense)


def test_against_numpy():
    student, teacher = pair()
    t = 2.0
    s, g = (
        np.array([softmax(row / t) for row in each.logits.detach().numpy()])
        for each in (student, teacher)
    )
    rows = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s, g, strict=True)])
    columns = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s.T, g.T, strict=True)])
    value = DIST(temperature=t, beta=2, gamma=3)(student, teacher, TARGET)
    assert value.item() == pytest.approx(t**2 * (2 * rows + 3 * columns), rel=1e-5)  # its eps


def test_zero_for_the_teacher_itself_and_two_for_its_opposite():
    probabilities = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], dtype=torch.float64)
    logits, opposite = probabilities.log(), (2 / 3 - probabilities).clamp(min=1e-9).log()
    same, one = (Outputs(logits), Outputs(logits)), (Outputs(logits[1:]), Outputs(opposite[1:]))
    assert DIST(gamma=0)(*same, TARGET).item() == pytest.approx(0, abs=1e-6)
    assert DIST(gamma=0)(*one, TARGET).item() == pytest.approx(2, abs=1e-6)


def test_pixels_are_rows():
    student, teacher = torch.randn(2, 4, 5, 3, 2, dtype=torch.float64)
    rows = [each.permute(0, 2, 3, 1).reshape(-1, 5) for each in (student, teacher)]
    value = DIST()(Outputs(student), Outputs(teacher), TARGET)
    assert value.item() == pytest.approx(DIST()(*map(Outputs, rows), TARGET).item(), rel=1e-12)
