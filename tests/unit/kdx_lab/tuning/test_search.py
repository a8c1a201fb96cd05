"""Trials: of which recipe they are, what they report, which are pruned, and the best of them."""

from itertools import pairwise
from math import nan

import pytest

from kdx_lab.study.cell import Cell
from kdx_lab.study.schema import Tune
from kdx_lab.tuning.search import Search, Trial
from kdx_lab.tuning.tune import _best
from tests.unit.kdx_lab.study import made
from tests.unit.kdx_lab.tuning.test_tune import grid

__all__ = ["grid"]  # a fixture


class Asked:
    """Optuna's trial: prunes at the second epoch."""

    def __init__(self):
        self.reported = []

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return len(self.reported) == 2


def drawn(sampler, trials):
    """Return the values of a search whose best is the largest."""
    space = {"x": "uniform(0, 1)", "y": [1, 2]}
    search = Search(Tune(trials=trials, space=space, sampler=sampler), space)
    found = []
    for _ in range(trials):
        asked, values = search.ask()
        search.study.tell(asked, values["x"])
        found.append(values["x"])
    return found


def test_quasi_random_trials_leave_no_hole():
    values = sorted(drawn("qmc", 8))
    assert max(after - before for before, after in pairwise([0, *values, 1])) <= 0.25
    assert drawn("qmc", 8) == drawn("qmc", 8)


def test_values_are_short_but_stay_within_their_range():
    space = {"decay": "uniform(0.999, 0.99999)"}
    search = Search(Tune(trials=20, space=space, sampler="random"), space)
    found = [search.ask()[1]["decay"] for _ in range(20)]
    assert all(0.999 < value < 0.99999 for value in found)
    assert sum(len(str(value)) <= 6 for value in found) > 10


def test_tpe_learns_from_the_first_half_of_a_short_search():
    assert drawn("tpe", 8)[:4] == drawn("random", 8)[:4]
    assert drawn("tpe", 8)[4:] != drawn("random", 8)[4:]
    assert drawn("tpe", 30)[:10] == drawn("random", 30)[:10]


def test_trials_of_another_recipe_are_refused(grid):
    recipe = grid().trial(("", "compact"), 3, {"optimizer.lr": 0.01})
    recipe.run_dir.mkdir(parents=True)
    (recipe.run_dir / "recipe.yaml").write_text(recipe.portable_yaml())
    assert not Trial(Asked(), {}, recipe).is_over()
    changed = grid("overrides.epochs=4").trial(("", "compact"), 3, {"optimizer.lr": 0.01})
    with pytest.raises(ValueError, match=r"a trial of another recipe:\n  epochs: 3, now 4\n"):
        Trial(Asked(), {}, changed).is_over()


def test_a_trial_that_is_not_a_number_is_never_the_best(grid, monkeypatch):
    values = {0: nan, 1: 0.3, 2: 0.7, 3: 0.7}
    plain, pair = grid(), ("", "compact")
    trials = [Trial(Asked(), {}, plain.trial(pair, n, {})) for n in values]
    for trial, score in zip(trials, values.values(), strict=True):
        run = made.summary(0.1, best={"top1": score}, last={"top1": score})
        made.finish(Cell("", "compact", 5, trial.recipe), run)
    metrics = trials[1].recipe.run_dir / "metrics.jsonl"
    metrics.write_text('{"epoch": 1, "seconds": 6.5}\n{"epoch": 2, "sec')  # killed while it wrote
    best = _best(pair, trials)
    assert (best["trial"], best["validation"], best["seconds"]) == (2, 0.7, 6.5)
    assert trials[0].value() is None


def test_the_average_counts_where_it_is_what_is_exported(grid):
    recipe = grid().trial(("", "compact"), 3, {"optimizer.lr": 0.01})
    trial = Trial(Asked(), {}, recipe)
    recipe.run_dir.mkdir(parents=True)
    line = '{"epoch": 1, "validation/top1": 0.%d, "validation_average/top1": 0.%d}\n'
    (recipe.run_dir / "metrics.jsonl").write_text(line % (5, 7) + line % (6, 4))
    trial.watch()
    assert trial.asked.reported == [(1, 0.7), (2, 0.6)]
    scores = {"last": {"top1": 0.6}, "average": {"top1": 0.7}}
    for number, exported, score in ((4, "average", 0.7), (5, "student", 0.6)):
        other = grid().trial(("", "compact"), number, {})
        run = made.summary(0.1, exported=exported, **scores)
        made.finish(Cell("", "compact", 5, other), run)
        assert Trial(Asked(), {}, other).value() == score


def test_epochs_are_reported_once_and_none_after_pruning(grid):
    recipe = grid().trial(("", "compact"), 3, {"optimizer.lr": 0.01})
    trial = Trial(Asked(), {}, recipe)
    assert not trial.watch()
    recipe.run_dir.mkdir(parents=True)
    file, line = recipe.run_dir / "metrics.jsonl", '{"epoch": 1, "validation/top1": 0.%d}\n'
    file.write_text(line % 5)
    assert not trial.watch()
    file.write_text(line % 5 + line % 6 + line % 7 + '{"epo')
    assert trial.watch()
    assert trial.watch()
    assert trial.asked.reported == [(1, 0.5), (2, 0.6)]
    assert trial.value() is None


def test_trials_below_the_median_of_the_earlier_ones_are_pruned(tmp_path):
    space = {"a": "uniform(0, 1)", "b": "int(1, 3)", "c": ["x", "y"]}
    search = Search(Tune(trials=20, space=space), space)
    for _ in range(4):
        asked, values = search.ask()
        assert 0 <= values["a"] <= 1
        assert values["b"] in (1, 2, 3)
        assert values["c"] in ("x", "y")
        asked.report(0.5, 1)
        search.study.tell(asked, 0.5)
    asked, _ = search.ask()
    asked.report(0.4, 1)
    assert asked.should_prune()
