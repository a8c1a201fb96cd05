import json

import pytest

from kdx_lab.study.collecting import collect
from tests.unit.kdx_lab.study.made import cell, finished


def outcomes(results):
    return {(row.setting, row.arm): row.outcome for row in results.rows}


def test_rows_stand_in_the_grids_order_though_seeds_run_first(tmp_path):
    places = [("k 3", "compact"), ("k 3", "cl"), ("k 5", "compact"), ("k 5", "ck")]
    cells = [cell(tmp_path, setting=s, arm=a, seed=n) for n in (4, 2) for s, a in places]
    results = collect(cells, baseline="compact")
    assert [(row.setting, row.arm) for row in results.rows] == places
    assert [list(row.cells) for row in results.rows] == [[4, 2]] * 4
    assert (results.settings, results.arms) == (["k 3", "k 5"], ["compact", "cl", "ck"])
    assert (results.planned, len(results.runs), results.outcomes) == (8, 0, [])


def test_an_arm_against_the_baseline_over_the_seeds_that_both_have(tmp_path):
    tests = {"compact": {0: 0.5, 1: 0.625, 2: 0.5}, "cl": {1: 0.75, 2: 0.75, 3: 1.0}}
    cells = [
        finished(tmp_path, arm, seed, score)
        for arm, scores in tests.items()
        for seed, score in scores.items()
    ]
    found = outcomes(collect(cells, baseline="compact"))
    compact, cl = found["", "compact"], found["", "cl"]
    assert compact.difference is None
    assert compact.test.values == tests["compact"]
    assert cl.test.mean == pytest.approx(2.5 / 3)
    assert cl.difference.values == {1: 0.125, 2: 0.25}
    assert cl.difference.mean == 0.1875
    # s = 0.125 / sqrt(2), t(0.975; 1) = 12.7062: half of it 12.7062 * 0.0625
    assert cl.difference.high - cl.difference.mean == pytest.approx(0.794138, rel=1e-5)


def test_settings_have_baselines_of_their_own(tmp_path):
    cells = [
        finished(tmp_path, arm, 0, test, setting=setting)
        for setting, arm, test in (
            ("a", "compact", 0.5), ("a", "cl", 0.75), ("b", "compact", 0.25), ("b", "cl", 0.375),
            ("c", "cl", 0.5),
        )
    ]  # fmt: skip
    found = outcomes(collect(cells, baseline="compact"))
    assert found["a", "cl"].difference.mean == 0.25
    assert found["b", "cl"].difference.mean == 0.125
    assert found["c", "cl"].difference is None


def test_what_a_row_says_of_its_runs(tmp_path):
    cells = [
        finished(
            tmp_path, "compact", seed, 0.5, best={"top1": best}, best_epoch=epoch,
            last={"top1": 0.25 + seed / 2}, train={"top1": 1.0} if seed else None,
        )
        for seed, best, epoch in ((0, 0.75, 2), (1, 0.875, 3))
    ]  # fmt: skip
    found = outcomes(collect(cells, baseline="compact"))["", "compact"]
    assert (found.metric, found.heading, found.evaluated_on) == ("top1", "top-1", "validation")
    assert found.selected == "last epoch"
    assert (found.best.mean, found.best_epoch.mean, found.last.mean) == (0.8125, 2.5, 0.5)
    assert found.train.values == {1: 1.0}
    assert found.others["top5"].values == {0: 0.9, 1: 0.9}
    assert list(found.others) == ["top5"]


def test_an_epoch_that_validation_chose(tmp_path):
    cells = [finished(tmp_path, "compact", 0, 0.5, "data.validation=16", "select=best")]
    found = outcomes(collect(cells, baseline="compact"))["", "compact"]
    assert found.selected == "best epoch on validation"


def test_the_cost_against_the_baselines_by_seed(tmp_path):
    parameters = {"compact": 10, "trained": 40}
    cells = [finished(tmp_path, "compact", n, 0.5, seconds=s) for n, s in enumerate((10, 20, 10))]
    cells += [
        finished(tmp_path, "cl", n, 0.5, seconds=s, images_per_second=100 * n, epochs=7,
                 parameters=parameters)
        for n, s in enumerate((20, 60, 100))
    ]  # fmt: skip
    found = outcomes(collect(cells, baseline="compact"))
    cost = found["", "cl"].cost
    assert (cost.seconds.mean, cost.images_per_second.mean) == (60, 100)
    assert cost.ratio == 3  # the median of 2, 3, 10
    assert (cost.epochs, cost.shipped, cost.trained) == (7, 10, 40)
    cells += [finished(tmp_path, "early", n, 0.5, epochs=e) for n, e in enumerate((5, 8))]
    early = outcomes(collect(cells, baseline="compact"))["", "early"].cost
    assert early.epochs == 6.5
    assert found["", "compact"].cost.ratio is None


def test_errors_are_one_minus_the_metric_and_what_follows(tmp_path):
    more = {"best": {"top1": 0.75}, "last": {"top1": 0.5}, "train": {"top1": 1.0}}
    cells = [finished(tmp_path, a, n, test, **more)
             for a, test in (("compact", 0.5), ("cl", 0.625)) for n in (0, 1)]  # fmt: skip
    found = outcomes(collect(cells, baseline="compact", errors=True))["", "cl"]
    assert found.heading == "top-1 error"
    assert [each.mean for each in (found.test, found.best, found.last, found.train)] == [
        0.375, 0.25, 0.5, 0.0,
    ]  # fmt: skip
    assert found.difference.mean == -0.125
    assert found.others["top5"].mean == pytest.approx(0.9)


def test_what_is_missing_and_why(tmp_path):
    cells = [finished(tmp_path, "compact", 0, 0.5)]
    cells += [cell(tmp_path, seed=seed) for seed in (1, 2)]
    failures = {str(cells[0]): "an earlier attempt", str(cells[2]): "TrainingError: nan"}
    (row,) = collect(cells, baseline="compact", failures=failures).rows
    assert (list(row.cells), list(row.runs)) == ([0, 1, 2], [0])
    assert row.failures == {2: "TrainingError: nan"}


def test_runs_that_cannot_be_summed_up_count_as_failed(tmp_path):
    cells = [finished(tmp_path, "compact", seed, 0.5) for seed in range(3)]
    (cells[0].run_dir / "summary.json").write_text("{")
    path = cells[1].run_dir / "summary.json"
    content = json.loads(path.read_text())
    content["test"] = {"top1": float("nan")}
    path.write_text(json.dumps(content))
    (row,) = collect(cells, baseline="compact").rows
    assert list(row.runs) == [2]
    assert row.failures[0].startswith(f"{cells[0].run_dir}: not a finished run: ")
    assert row.failures[1] == f"{cells[1].run_dir}: test: top1 is nan"


def test_other_metrics_that_are_no_numbers_are_left_out(tmp_path):
    losses = (float("inf"), 0.25, float("nan"))
    cells = [finished(tmp_path, "compact", n, 0.5, test={"top1": 0.5, "loss": loss})
             for n, loss in enumerate(losses)]  # fmt: skip
    found = outcomes(collect(cells, baseline="compact"))["", "compact"]
    assert found.others["loss"].values == {1: 0.25}


def test_an_unknown_baseline_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"baseline: 'compct' is not an arm\. Known: compact"):
        collect([cell(tmp_path)], baseline="compct")
