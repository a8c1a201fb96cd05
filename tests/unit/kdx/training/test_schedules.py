from fractions import Fraction
from math import ceil, cos, pi

import pytest

from kdx.training.schedules import TABLE, constant, cosine, linear, multistep


def factors(schedule, steps, steps_per_epoch):
    return [schedule(step, steps, steps_per_epoch) for step in range(steps)]


def test_constant():
    assert factors(constant(), 5, 2) == [1.0] * 5


def test_linear():
    assert factors(linear(), 5, 2) == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert factors(linear(end=0.2), 5, 5) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_cosine():
    assert factors(cosine(), 5, 2) == pytest.approx([(1 + cos(pi * i / 4)) / 2 for i in range(5)])
    assert factors(cosine(end=0.5), 3, 1) == pytest.approx([1, 0.75, 0.5])


def test_multistep_by_epochs():
    found = factors(multistep(milestones=[50, 100]), 450, 3)
    assert found == pytest.approx([1] * 150 + [0.1] * 150 + [0.01] * 150)
    assert factors(multistep(milestones=[1, 2], gamma=0.5), 6, 2) == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_multistep_by_fractions_of_the_stage():
    found = factors(multistep(milestones=[1 / 3, 2 / 3]), 90, 10)
    assert found == pytest.approx([1] * 30 + [0.1] * 30 + [0.01] * 30)
    found = factors(multistep(milestones=[0.5, 3]), 8, 2)
    assert found == pytest.approx([1] * 4 + [0.1] * 2 + [0.01] * 2)


@pytest.mark.parametrize("warmup", [2, 0.5])
def test_warm_up_by_epochs_and_by_fractions(warmup):
    rise = [0.2, 0.4, 0.6, 0.8]
    assert factors(constant(warmup=warmup), 8, 2) == pytest.approx([*rise, 1, 1, 1, 1])
    assert factors(linear(warmup=warmup), 8, 2) == pytest.approx([*rise, 1, 2 / 3, 1 / 3, 0])
    assert factors(cosine(warmup=warmup), 8, 2) == pytest.approx([*rise, 1, 0.75, 0.25, 0])
    found = factors(multistep(milestones=[3], warmup=warmup), 8, 2)
    assert found == pytest.approx([*rise, 1, 1, 0.1, 0.1])


def test_a_warm_up_longer_than_the_stage_only_rises():
    assert factors(cosine(warmup=2), 3, 3) == pytest.approx([1 / 7, 2 / 7, 3 / 7])


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 8, 60])
@pytest.mark.parametrize("steps", [2, 3, 17, 60])
@pytest.mark.parametrize("warmup", [0, 0.25])
@pytest.mark.parametrize("schedule", [linear, cosine])
def test_the_end_is_reached_at_the_last_step(schedule, warmup, steps, steps_per_epoch):
    found = factors(schedule(end=0.125, warmup=warmup), steps, steps_per_epoch)
    assert found[-1] == pytest.approx(0.125, abs=1e-12)
    rising = round(warmup * steps)
    assert found[rising] == 1
    assert found[rising:] == sorted(found[rising:], reverse=True)


def test_a_single_step_is_taken_at_the_full_rate():
    assert [TABLE[name]()(0, 1, 1) for name in ("constant", "cosine", "linear")] == [1, 1, 1]


@pytest.mark.parametrize("milestones", [[0], [-1, 2], [3, 2]])
def test_milestones_that_are_refused(milestones):
    with pytest.raises(ValueError, match=r"milestones: \[.*\] must be above 0 and ascending"):
        multistep(milestones=milestones)


@pytest.mark.parametrize("gamma", [0, -0.1, float("nan")])
def test_gammas_that_are_refused(gamma):
    with pytest.raises(ValueError, match=rf"gamma: {gamma} must be above 0"):
        multistep(milestones=[1], gamma=gamma)


@pytest.mark.parametrize("make", [constant, cosine, linear])
def test_a_negative_warm_up_is_refused(make):
    with pytest.raises(ValueError, match=r"warmup: -1 must be 0 or more epochs"):
        make(warmup=-1)


@pytest.mark.parametrize("make", [cosine, linear])
@pytest.mark.parametrize("end", [-0.1, 1.1])
def test_ends_that_are_refused(make, end):
    with pytest.raises(ValueError, match=rf"end: {end} must be in \[0, 1\]"):
        make(end=end)


def first_step_after(milestone, steps, per_epoch):
    """Return the first step at the lower rate, seen from near the exact one."""
    schedule, near = multistep(milestones=[milestone]), int(milestone * steps)
    around = range(max(0, near - 2), min(steps, near + 3))
    return next(step for step in around if schedule(step, steps, per_epoch) < 1)


@pytest.mark.parametrize("per_epoch", [1, 7])
def test_shares_that_are_whole_epochs_are_not_late(per_epoch):
    for epochs in range(2, 301):
        for epoch in range(1, epochs):
            steps = epochs * per_epoch
            assert first_step_after(epoch / epochs, steps, per_epoch) == epoch * per_epoch


@pytest.mark.parametrize("steps", [25, 50, 100, 450, 7775, 10**6])
def test_decimal_shares_are_exact(steps):
    for digits in ("0.28", "0.07", "0.55", "0.57", "0.58", "0.3333", "0.145", "0.29"):
        exact = ceil(Fraction(digits) * steps)
        assert first_step_after(float(digits), steps, 5) == exact
        rising = round(Fraction(digits) * steps)
        found = constant(warmup=float(digits))(0, steps, 5)
        assert found == 1 / (rising + 1)


def test_computed_epochs_are_exact():
    """1.1 * 3 is 3.3000000000000003 in float64."""
    found = factors(multistep(milestones=[1.1 * 3], gamma=0.5), 50, 10)
    assert found == [1.0] * 33 + [0.5] * 17


@pytest.mark.parametrize(("share", "rising"), [(0.575, 58), (0.145, 14), (0.285, 28), (0.125, 12)])
def test_a_warm_up_of_half_a_step_rounds_to_even(share, rising):
    assert constant(warmup=share)(0, 100, 10) == 1 / (rising + 1)


@pytest.mark.parametrize("milestone", [1e308, float("inf")])
def test_a_milestone_that_never_comes(milestone):
    assert factors(multistep(milestones=[2, milestone]), 40, 10) == [1.0] * 20 + [0.1] * 20
