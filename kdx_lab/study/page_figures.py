"""The figures of a study: differences to the baseline, each arm's results, curves."""

import json
from collections.abc import Mapping
from pathlib import Path

from kdx.report.blocks import Figure
from kdx.report.charts import Dots, Line, dots, lines
from kdx.report.curves import points
from kdx.report.files import read_epochs
from kdx_lab.analysis.bands import together
from kdx_lab.study.stored import StoredResults, StoredRow
from kdx_lab.study.tables import heading_of, unit_of
from kdx_lab.tuning.folder import is_aside

__all__ = ["dot_plots", "mean_curves", "run_places"]


def dot_plots(results: StoredResults, setting: str) -> list[Figure]:
    """Return the figures of the differences to the baseline, and of each arm's results."""
    found = [(n, row.arm, row.outcome) for n, row in enumerate(results.of(setting)) if row.outcome]
    if not found:
        return []
    outcomes = [outcome for *_, outcome in found]
    heading, unit = heading_of(outcomes), unit_of(outcomes, " (%)")
    differences = [
        _row(arm, d.mean, d.low, d.high, d.values, outcome.scale, hue)
        for hue, arm, outcome in found
        if (d := outcome.difference)
    ]
    values = [
        _row(arm, t.mean, t.mean - (t.std or 0), t.mean + (t.std or 0), t.values, o.scale, hue)
        for hue, arm, o in found
        if (t := o.test)
    ]
    figures = []
    if differences:
        points = " (percentage points)" if unit else ""
        drawn = dots(differences, x=f"difference of test {heading}{points}", zero=True)
        note = f"Bars: {results.confidence:.0%} intervals; small dots: the seeds."
        figures.append(Figure(f"Difference to {results.baseline}", drawn, note=note))
    drawn = dots(values, x=f"test {heading}{unit}")
    note = "Bars: one standard deviation; small dots: the seeds."
    return [*figures, Figure(f"Test {heading}", drawn, note=note)]


def _row(
    arm: str,
    mean: float,
    low: float | None,
    high: float | None,
    values: Mapping[int, float],
    scale: float,
    hue: int,
) -> Dots:
    low, high = (None if end is None else scale * end for end in (low, high))
    return Dots(arm, scale * mean, low, high, [scale * value for value in values.values()], hue)


def mean_curves(results: StoredResults, setting: str, places: Mapping[str, Path]) -> list[Figure]:
    """Return the means over the seeds by epoch, of the metric and of the training loss."""
    rows, figures = results.of(setting), []
    first = next((row.outcome for row in rows if row.outcome), None)
    if first is None:
        return []
    split, heading, unit = first.evaluated_on, first.heading, unit_of([first], " (%)")
    measured = f"{split}/{first.metric}"
    for title, key, y in (
        (f"{heading} on {split}", measured, f"{heading}{unit}"),
        ("Training loss", "loss/total", "weighted loss"),
    ):
        is_metric = key == measured
        scale = first.scale if is_metric else 1
        flip = is_metric and results.errors
        series = [_line(row, key, scale, places, flip=flip) for row in rows]
        if any(len(line.points) > 1 for line in series):
            note = "Mean over the seeds; band: one standard deviation."
            if not is_metric:
                note += " Arms with other losses cannot be compared by it."
            drawn = lines(series, x="epoch", y=y)
            figures.append(Figure(title, drawn, [line.label for line in series], note))
    return figures


def _line(
    row: StoredRow, key: str, scale: float, places: Mapping[str, Path], *, flip: bool = False
) -> Line:
    """Return mean and band of the epochs that all seeds have; `flip`: `scale` minus the value."""
    names = [str(run.get("name")) for run in row.runs.values()]
    runs = [
        dict(points(read_epochs(places[name] / "metrics.jsonl"), key, scale))
        for name in names if name in places
    ]  # fmt: skip
    if not runs:
        return Line(row.arm, [])
    found = together(runs)
    epochs, mean, std = found.x.tolist(), scale - found.mean if flip else found.mean, found.std
    means = zip(epochs, mean.tolist(), strict=True)
    band = zip(epochs, (mean - std).tolist(), (mean + std).tolist(), strict=True)
    return Line(row.arm, list(means), list(band) if len(runs) > 1 else ())


def run_places(directory: Path) -> dict[str, Path]:
    """Return the directories of the runs below a study's, by the names in their summaries.

    Without trials, and runs that were replaced.
    """
    found = {}
    for path in sorted(directory.rglob("summary.json")):
        if is_aside(path.parent.relative_to(directory)):
            continue
        try:
            found[json.loads(path.read_text(encoding="utf-8"))["name"]] = path.parent
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: damaged: {error}") from error
    return found
