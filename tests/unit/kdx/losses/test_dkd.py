import numpy as np
import pytest
import torch

from kdx.losses import DKD
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, pair


def softmax(row):
    shifted = np.exp(row - row.max())
    return shifted / shifted.sum()


def kl(p, q):
    return float((p * np.log(p / q)).sum())


def test_contract():
    check_loss(DKD)
    check_loss(lambda: DKD(standardize=True))


def test_against_loops():
    student, teacher = pair()
    t, tckd, nckd = 3.0, [], []
    for own, guide, y in zip(student.logits, teacher.logits, TARGET.tolist(), strict=True):
        s, g = (softmax(row.detach().numpy() / t) for row in (own, guide))
        tckd.append(kl(np.array([g[y], 1 - g[y]]), np.array([s[y], 1 - s[y]])))
        nckd.append(kl(np.delete(g, y) / (1 - g[y]), np.delete(s, y) / (1 - s[y])))
    expected = t**2 * (0.5 * np.mean(tckd) + 2 * np.mean(nckd))
    value = DKD(temperature=t, alpha=0.5, beta=2)(student, teacher, TARGET)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_weighted_as_kd_it_is_kd():
    """KL = TCKD + (1 - p_t[y]) NCKD: equation 5, for one sample."""
    student, teacher = pair()
    own, guide, target = (each[:1] for each in (student.logits, teacher.logits, TARGET))
    rest = 1 - guide.softmax(1)[0, target].item()
    value = DKD(temperature=1, beta=rest)(Outputs(own), Outputs(guide), target)
    expected = torch.nn.functional.kl_div(
        own.log_softmax(1), guide.softmax(1), reduction="batchmean"
    )
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)


def test_two_classes_have_no_others():
    own, guide = torch.randn(2, 4, 2, dtype=torch.float64)
    target = TARGET % 2
    both = DKD(beta=8)(Outputs(own), Outputs(guide), target)
    assert both == DKD(beta=0)(Outputs(own), Outputs(guide), target) > 0


def test_pixels_and_weights_out_of_range_are_refused():
    maps = Outputs(torch.zeros(2, 5, 3, 3))
    with pytest.raises(ValueError, match=r"dkd: needs logits \[B, C\], one label a sample: \[2, 5"):
        DKD()(maps, maps, torch.zeros(2, 3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"beta: -1 is not a finite number of at least 0"):
        DKD(beta=-1)
