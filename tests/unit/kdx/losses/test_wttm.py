import numpy as np
import pytest

from kdx.losses import KD, TTM, WTTM
from tests.contracts import TARGET, check_loss, pair
from tests.unit.kdx.losses.test_dkd import kl, softmax


@pytest.mark.parametrize("factory", [WTTM, TTM, lambda: WTTM(standardize=True)])
def test_contract(factory):
    check_loss(factory)


def test_against_loops():
    student, teacher = pair()
    plain, weighted = [], []
    for own, guide in zip(student.logits, teacher.logits, strict=True):
        powers = softmax(guide.detach().numpy()) ** 0.2
        plain.append(kl(powers / powers.sum(), softmax(own.detach().numpy())))
        weighted.append(powers.sum() * plain[-1])
    value = WTTM(gamma=0.2)(student, teacher, TARGET)
    assert value.item() == pytest.approx(np.mean(weighted), rel=1e-12)
    assert TTM(gamma=0.2)(student, teacher, TARGET).item() == pytest.approx(np.mean(plain), 1e-12)


def test_a_power_of_1_is_kd_at_temperature_1():
    student, teacher = pair()
    expected = KD(temperature=1)(student, teacher, TARGET).item()
    for loss in (WTTM(gamma=1), TTM(gamma=1)):
        assert loss(student, teacher, TARGET).item() == pytest.approx(expected, rel=1e-12)


def test_powers_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"gamma: 0 is not in \(0, 1\]"):
        WTTM(gamma=0)
