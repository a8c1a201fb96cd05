"""The plots of a study: differences to the baseline, every seed's result, curves."""

import json
from collections.abc import Callable, Iterator
from math import ceil, sqrt
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from kdx.figures import COLORS, panels, write
from kdx.study.rows import Outcome, Results, Row
from kdx.study.statistics import CONFIDENCE, Spread, spread
from kdx.study.tables import heading_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

_HUES = 6  # colours that are told apart easily; then the line changes
_STYLES = ("-", "--", ":")
_BELOW = 0.24  # of a row: where the seeds' own points lie
_WIDTH, _HEIGHT = 4.4, 3.4  # inches of a panel of curves
_ROW, _AROUND, _LETTER = 0.36, 0.9, 0.085  # inches of an arm, of what is around arms, of a letter

_Curve = list[tuple[int, Spread]]


def draw(directory: Path, results: Results) -> list[Path]:
    """Write the plots that there is something for, and return their paths.

    differences.png: each arm's paired difference to the baseline, with its interval and the seeds'
    own differences. accuracy.png: every seed's test value, with mean and standard deviation.
    curves.png, losses.png: means over the finished seeds by epoch, and a band of one standard
    deviation.
    """
    outcomes, what = results.outcomes, heading_of(results)
    figures: dict[str, Figure] = {}
    if any(o.difference for o in outcomes):
        label = (
            f"difference of test {what} to {results.baseline} (percentage points)\n"
            f"mean with {CONFIDENCE:.0%} confidence interval, and below it the seeds"
        )
        others = [arm for arm in results.arms if arm != results.baseline]
        figures["differences"] = _rows(results, _difference, label, others)
        _share_range(figures["differences"].axes)
    if outcomes:
        label = f"test {what} (%)\nmean with standard deviation, and below it the seeds"
        figures["accuracy"] = _rows(results, _value, label, results.arms)
    measured = _curves(results, lambda o: f"{o.evaluated_on}/{o.metric}")
    if measured:
        split = " or ".join(dict.fromkeys(o.evaluated_on for o in outcomes))
        flip = (lambda value: 100 - 100 * value) if results.errors else (lambda value: 100 * value)
        figures["curves"] = _epochs(results, measured, f"{split} {what} (%)", flip)
    losses = _curves(results, lambda o: "loss/total")
    if losses:
        figures["losses"] = _epochs(results, losses, "training loss, all terms weighted", float)
    return [write(figure, directory / f"{name}.png") for name, figure in figures.items()]


def _rows(
    results: Results, show: Callable[["Axes", Outcome, int, str], None], label: str, arms: list[str]
) -> "Figure":
    """Draw a panel a setting in which each of `arms` is a row, the first one uppermost."""
    height, margin = _ROW * len(arms) + _AROUND, _LETTER * max(map(len, arms))
    figure, axes, columns = _panels(results, height=height, margin=margin)
    for number, (each, setting) in enumerate(zip(axes, results.settings, strict=True)):
        for row in results.of(setting):
            if row.outcome and row.arm in arms:
                color = COLORS[results.arms.index(row.arm) % _HUES]
                show(each, row.outcome, arms.index(row.arm), color)
        each.set_ylim(len(arms) - 0.5, -0.5)
        each.set_yticks(range(len(arms)), arms if number % columns == 0 else [""] * len(arms))
        each.set_title(fill(setting, 45), fontsize=10)
    figure.supxlabel(label, fontsize=10)
    return figure


def _share_range(axes: list["Axes"]) -> None:
    """Give all panels the range of values that holds those of each."""
    low, high = zip(*(each.get_xlim() for each in axes if each.get_visible()), strict=True)
    for each in axes:
        each.set_xlim(min(low), max(high))


def _difference(axes: "Axes", outcome: Outcome, row: int, color: str) -> None:
    axes.axvline(0, color="black", linewidth=0.8)
    found = outcome.difference
    if found is None:
        return
    low, high = found.low, found.high
    half = None if low is None or high is None else 50 * (high - low)
    _mean(axes, (100 * found.mean, half), row, color)
    _points(axes, [100 * value for value in found.values.values()], row, color)


def _value(axes: "Axes", outcome: Outcome, row: int, color: str) -> None:
    std = outcome.test.std
    _mean(axes, (100 * outcome.test.mean, None if std is None else 100 * std), row, color)
    _points(axes, [100 * value for value in outcome.test.values.values()], row, color)


def _mean(axes: "Axes", value: tuple[float, float | None], row: int, color: str) -> None:
    mean, half = value
    axes.errorbar(mean, row, xerr=half, fmt="o", color=color, markersize=5, capsize=3)


def _points(axes: "Axes", values: list[float], row: int, color: str) -> None:
    """Draw the seeds' own values a little below the mean."""
    below = [row + _BELOW] * len(values)
    axes.plot(values, below, "o", color=color, markersize=3, alpha=0.45, markeredgewidth=0)


def _epochs(
    results: Results,
    curves: dict[tuple[str, str], _Curve],
    label: str,
    scale: Callable[[float], float],
) -> "Figure":
    """Draw a panel a setting with a curve an arm; the legend stands beside them."""
    arms = results.arms
    margin = 0.6 + _LETTER * max(map(len, arms))
    figure, axes, _ = _panels(results, height=_HEIGHT, margin=margin)
    legend = {}
    for each, setting in zip(axes, results.settings, strict=True):
        each.set_title(fill(setting, 45), fontsize=10)
        for number, arm in enumerate(arms):
            if (setting, arm) in curves:
                line = _curve(each, curves[setting, arm], number, scale)
                legend.setdefault(arm, line)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(label, fontsize=10)
    figure.legend(legend.values(), legend.keys(), loc="outside right upper", frameon=False)
    return figure


def _curve(axes: "Axes", curve: _Curve, number: int, scale: Callable[[float], float]):
    color, style = COLORS[number % _HUES], _STYLES[number // _HUES % len(_STYLES)]
    epochs = [epoch for epoch, _ in curve]
    (line,) = axes.plot(
        epochs, [scale(at.mean) for _, at in curve], style, color=color, linewidth=1.2
    )
    low, high = ([scale(at.mean + sign * (at.std or 0)) for _, at in curve] for sign in (-1, 1))
    axes.fill_between(epochs, low, high, color=color, alpha=0.12, linewidth=0)
    return line


def _curves(results: Results, key: Callable[[Outcome], str]) -> dict[tuple[str, str], _Curve]:
    """Return the mean curves of a name in metrics.jsonl, by setting and arm, where it is there."""
    found = {
        (row.setting, row.arm): list(_over_seeds(row, key(row.outcome)))
        for row in results.rows
        if row.outcome
    }
    return {place: curve for place, curve in found.items() if curve}


def _over_seeds(row: Row, key: str) -> Iterator[tuple[int, Spread]]:
    """Yield the epochs that all finished runs have, and their values."""
    runs = {seed: _history(row.cells[seed].run_dir / "metrics.jsonl", key) for seed in row.runs}
    for epoch in sorted(set.intersection(*map(set, runs.values()))):
        found = spread({seed: run[epoch] for seed, run in runs.items()})
        assert found, "a row with an outcome has runs"
        yield epoch, found


def _history(path: Path, key: str) -> dict[int, float]:
    lines = path.read_text().splitlines() if path.is_file() else []
    values = [json.loads(line) for line in lines]
    return {each["epoch"]: each[key] for each in values if key in each}


def _panels(
    results: Results, *, height: float, margin: float
) -> tuple["Figure", list["Axes"], int]:
    """Return a figure with a panel a setting, these, and how many stand in a line."""
    count = len(results.settings)
    columns = count if count <= 3 else ceil(sqrt(count))
    lines = ceil(count / columns)
    figure, axes = panels(columns, lines)
    figure.set_size_inches(_WIDTH * columns + margin, height * lines)
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count], columns
