"""Reads the finished runs of a study into rows."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite, nan
from statistics import mean, median

from kdx.report.summary import Summary, read_summary
from kdx.run.directory import is_finished
from kdx_lab.study.cell import Cell
from kdx_lab.study.rows import Outcome, Results, Row, TrainingCost
from kdx_lab.study.statistics import Spread, paired_difference, spread

__all__ = ["collect"]


def collect(
    cells: Sequence[Cell],
    *,
    baseline: str,
    failures: Mapping[str, str] | None = None,
    errors: bool = False,
) -> Results:
    """Read the finished runs among `cells`.

    `failures` says why others failed, by `str(cell)`. With `errors` the primary metric is turned
    into an error, one minus it. ValueError if no arm is called `baseline`.
    """
    grid: dict[str, dict[str, dict[int, Cell]]] = {}
    for cell in cells:
        grid.setdefault(cell.setting, {}).setdefault(cell.arm, {})[cell.seed] = cell
    known = list(dict.fromkeys(arm for arms in grid.values() for arm in arms))
    if baseline not in known:
        raise ValueError(f"baseline: {baseline!r} is not an arm. Known: {', '.join(known)}")
    rows = []
    for setting, arms in grid.items():
        read = {arm: _read(planned, failures or {}) for arm, planned in arms.items()}
        reference = read[baseline][0] if baseline in read else {}
        for arm, (runs, failed) in read.items():
            other = reference if arm != baseline else {}
            outcome = _outcome(runs, arms[arm], reference=other, errors=errors) if runs else None
            row = Row(setting=setting, arm=arm, failures=failed, outcome=outcome,
                      cells=arms[arm], runs=runs)  # fmt: skip
            rows.append(row)
    return Results(tuple(rows), baseline, errors)


def _read(
    cells: Mapping[int, Cell], failures: Mapping[str, str]
) -> tuple[dict[int, Summary], dict[int, str]]:
    """Return the finished runs, and why others failed, by seed."""
    runs, failed = {}, {}
    for seed, cell in cells.items():
        try:
            if is_finished(cell.run_dir):
                runs[seed] = _checked(cell)
            elif str(cell) in failures:
                failed[seed] = failures[str(cell)]
        except ValueError as error:
            failed[seed] = str(error)
    return runs, failed


def _checked(cell: Cell) -> Summary:
    """Read a summary; ValueError if its primary metric is NaN or Inf."""
    run = read_summary(cell.run_dir)
    for where, metrics in (("test", run.test), ("best", run.best), ("last", run.last)):
        value = metrics.get(run.primary_metric)
        if value is None or not isfinite(value):
            raise ValueError(f"{cell.run_dir}: {where}: {run.primary_metric} is {value}")
    return run


def _outcome(
    runs: Mapping[int, Summary],
    cells: Mapping[int, Cell],
    *,
    reference: Mapping[int, Summary],
    errors: bool,
) -> Outcome:
    first, metric = next(iter(runs.values())), next(iter(runs.values())).primary_metric

    def scores(
        runs: Mapping[int, Summary], metrics: Callable[[Summary], Mapping[str, float]]
    ) -> dict[int, float]:
        found = {seed: metrics(run)[metric] for seed, run in runs.items() if metrics(run)}
        return {seed: 1 - value if errors else value for seed, value in found.items()}

    test = scores(runs, lambda run: run.test)
    exported = next(iter(cells.values())).recipe.select
    return Outcome(
        metric=metric,
        heading=first.headings[metric] + (" error" if errors else ""),
        evaluated_on=first.evaluated_on,
        selected="last epoch" if exported == "last" else f"best epoch on {first.evaluated_on}",
        test=_known(test),
        best=_known(scores(runs, lambda run: run.best)),
        best_epoch=_known({seed: run.best_epoch for seed, run in runs.items()}),
        last=_known(scores(runs, lambda run: run.last)),
        train=spread(scores(runs, lambda run: run.train or {})),
        difference=paired_difference(test, scores(reference, lambda run: run.test)),
        others=_others(runs, metric),
        cost=_cost(runs, reference),
        is_number=metric in first.numbers,
    )


def _cost(runs: Mapping[int, Summary], reference: Mapping[int, Summary]) -> TrainingCost:
    first = next(iter(runs.values()))
    both = [seed for seed in runs if seed in reference]
    ratios = [runs[seed].seconds / reference[seed].seconds for seed in both]
    return TrainingCost(
        seconds=_known({seed: run.seconds for seed, run in runs.items()}),
        ratio=median(ratios) if ratios else None,
        images_per_second=_known({seed: run.images_per_second for seed, run in runs.items()}),
        epochs=mean(run.epochs for run in runs.values()),
        shipped=first.parameters["compact"],
        trained=first.parameters["trained"],
    )


def _others(runs: Mapping[int, Summary], metric: str) -> dict[str, Spread]:
    """Return the other test metrics, without NaN and Inf."""
    found = {}
    for name in dict.fromkeys(name for run in runs.values() for name in run.test):
        scores = {seed: run.test.get(name, nan) for seed, run in runs.items()}
        values = spread({seed: value for seed, value in scores.items() if isfinite(value)})
        if values and name != metric:
            found[name] = values
    return found


def _known(values: Mapping[int, float]) -> Spread:
    found = spread(values)
    assert found, "a row with an outcome has runs"
    return found
