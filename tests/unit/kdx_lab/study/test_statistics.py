import random
from math import sqrt

import pytest
from scipy.stats import ttest_rel

from kdx_lab.study.statistics import Spread, holm, paired_difference, spread


def test_mean_and_sample_standard_deviation_by_hand():
    # deviations -3, -1, 1, 3: squares sum to 20, over n - 1 = 3
    found = spread({0: 1.0, 1: 3.0, 2: 5.0, 3: 7.0})
    assert found.mean == 4
    assert found.std == pytest.approx(sqrt(20 / 3), rel=1e-12)


def test_one_value_has_no_standard_deviation_and_none_no_spread():
    assert spread({3: 0.5}) == Spread({3: 0.5}, 0.5, None)
    assert spread({}) is None


def test_a_paired_interval_by_hand():
    # differences 1, 2, 3: mean 2, s = 1, and t(0.975; 2) = 4.302653 in printed tables
    found = paired_difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    half = 4.302653 / sqrt(3)
    assert found.mean == 2
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)


def test_the_interval_of_five_seeds_by_the_table():
    # differences 0.1, 0.3, 0.5, 0.7, 0.9: s = sqrt(0.1), and t(0.975; 4) = 2.776445
    arm = {seed: 0.1 + 0.2 * seed for seed in range(5)}
    found = paired_difference(arm, dict.fromkeys(range(5), 0.0))
    half = 2.776445 * sqrt(0.1) / sqrt(5)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_interval_is_scipys(n):
    draw = random.Random(n).gauss
    arm, baseline = ({seed: draw(0.8, 0.01) for seed in range(n)} for _ in range(2))
    interval = ttest_rel(list(arm.values()), list(baseline.values())).confidence_interval(0.95)
    found = paired_difference(arm, baseline)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_seeds_are_paired_by_number_and_not_by_order():
    found = paired_difference({2: 5.0, 0: 3.0, 7: 9.0}, {0: 1.0, 2: 2.0, 3: 100.0})
    assert found.values == {2: 3.0, 0: 2.0}
    assert found.mean == 2.5


def test_one_common_seed_has_no_interval_and_none_no_difference():
    found = paired_difference({0: 3.0, 1: 4.0}, {1: 2.5, 2: 9.0})
    assert (found.values, found.mean, found.low, found.high) == ({1: 1.5}, 1.5, None, None)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_equal_differences_make_the_interval_a_point():
    found = paired_difference({0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.25})
    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    draw = random.Random(0)
    held = 0
    for _ in range(2000):
        chance = [{seed: draw.gauss(0, 1) for seed in range(5)} for _ in range(2)]
        found = paired_difference({s: x + 0.3 for s, x in chance[0].items()}, chance[1])
        held += found.low <= 0.3 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)  # 3 standard errors of 0.0049


def test_holms_correction_by_hand():
    # 3 x 0.01, 2 x 0.02 = 0.04, and 0.03, which may not be below the one before
    expected = {"a": 0.03, "b": 0.04, "c": 0.04}
    assert holm({"c": 0.03, "a": 0.01, "b": 0.02}) == pytest.approx(expected)
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_the_p_value_is_scipys_and_equal_differences_have_none():
    arm, base = {0: 1.0, 1: 2.5, 2: 2.9}, {0: 0.9, 1: 1.0, 2: 2.0}
    expected = ttest_rel([*arm.values()], [*base.values()]).pvalue
    assert paired_difference(arm, base).p == pytest.approx(expected, rel=1e-9)
    assert paired_difference({0: 2.0, 1: 2.0}, {0: 1.0, 1: 1.0}).p is None
    assert paired_difference({0: 1.0}, {0: 1.0}).p is None
    shares = {seed: images / 2000 for seed, images in enumerate((793, 1789, 694))}
    equal = {seed: (images + 3) / 2000 for seed, images in enumerate((793, 1789, 694))}
    found = paired_difference(equal, shares)  # equal but for rounding
    assert (found.p, found.low) == (None, found.high)
