"""What `make demo` says of its arms."""

import pytest

from kdx_lab.study.rows import Outcome, TrainingCost
from kdx_lab.study.statistics import Difference, Spread, paired_difference
from tools.demo import STUDY, finding

SPREAD = Spread({0: 0.5}, 0.5, None)


def outcome(difference: Difference | None, ratio: float | None) -> Outcome:
    """Return an arm's outcome of which only the difference and the cost count."""
    cost = TrainingCost(SPREAD, ratio, SPREAD, epochs=1, shipped=1, trained=1)
    return Outcome("top1", "top-1", "test", "last epoch", test=SPREAD, best=SPREAD,
                   best_epoch=SPREAD, last=SPREAD, train=None, difference=difference, others={},
                   cost=cost)  # fmt: skip


@pytest.mark.parametrize(
    ("arm", "verdict"),
    [
        ({0: 0.52, 1: 0.53, 2: 0.54}, "better (+3.0 points, n = 3)"),
        ({0: 0.48, 1: 0.47, 2: 0.46}, "worse (-3.0 points, n = 3)"),
        ({0: 0.52, 1: 0.50, 2: 0.51}, "no clear difference (+1.0 points, n = 3)"),
    ],
)
def test_a_difference_is_clear_if_its_interval_excludes_0(arm, verdict):
    difference = paired_difference(arm, {0: 0.5, 1: 0.5, 2: 0.5})
    said = finding("ck", outcome(difference, 1.5))
    assert said == f"ck: {verdict}, 1.5 x the training time"
    assert finding("ck", outcome(difference, None)) == f"ck: {verdict}"


@pytest.mark.parametrize("runs", [{}, {0: 0.9}])
def test_one_seed_is_not_compared(runs):
    difference = paired_difference(runs, {0: 0.5})
    assert finding("ck", outcome(difference, 1.5)) == "ck: too few finished runs to compare"
    assert finding("ck", None) == "ck: too few finished runs to compare"


def test_the_demos_study_is_shipped():
    assert STUDY.is_file()
