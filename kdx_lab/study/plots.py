"""The plots of a study: differences to the baseline, every seed's result, curves."""

from collections.abc import Callable, Iterable, Sequence
from math import ceil, sqrt
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, TypeVar

from numpy.typing import NDArray

from kdx.report.curves import points
from kdx.report.files import read_epochs
from kdx_lab.analysis.bands import Band, together
from kdx_lab.analysis.figures import COLORS, panels, write
from kdx_lab.study.rows import Outcome, Results, Row
from kdx_lab.study.statistics import CONFIDENCE
from kdx_lab.study.tables import heading_of, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

_HUES = 6  # colours that are easy to distinguish; then the line style changes
_STYLES = ("-", "--", ":", "-.")
_VARIANTS = (
    "",
    "+kd",
    "+init",
    "+init+kd",
)  # of an arm: one colour, four line styles
_BELOW = 0.24  # of a row: where the seeds' own points lie
_WIDTH, _HEIGHT = 4.4, 3.4  # inches of a panel of curves
_ROW, _AROUND, _LETTER = 0.36, 0.9, 0.085  # inches of an arm, of what is around arms, of a letter

_Found = TypeVar("_Found")
_Place = tuple[str, str]  # setting, arm
_Dots = tuple[float, float | None, list[float]]  # mean, half of the bar, the seeds' own values


def draw(directory: Path, results: Results) -> list[Path]:
    """Write the plots that there is data for, and return their paths.

    differences.png: each arm's paired difference to the baseline, with its interval and the seeds'
    own differences. accuracy.png: every seed's test value, with mean and standard deviation.
    curves.png, losses.png: means over the finished seeds by epoch, and a band of one standard
    deviation.
    """
    outcomes, what = results.outcomes, heading_of(results.outcomes)
    figures: dict[str, Figure] = {}
    percent = unit_of(outcomes, " (%)")
    if differences := _by_place(results, _difference):
        label = (
            f"difference of test {what} to {results.baseline}"
            f"{unit_of(outcomes, ' (percentage points)')}\n"
            f"mean with {CONFIDENCE:.0%} confidence interval; below it, each seed"
        )
        figures["differences"] = _rows(results, differences, label)
        _around_zero([each for each in figures["differences"].axes if each.get_visible()])
    if values := _by_place(results, _value):
        label = f"test {what}{percent}\nmean with standard deviation; below it, each seed"
        figures["accuracy"] = _rows(results, values, label)
    if measured := _by_place(results, lambda row, o: _curve(row, f"{o.evaluated_on}/{o.metric}")):
        split = " or ".join(dict.fromkeys(o.evaluated_on for o in outcomes))
        by = outcomes[0].scale
        scale = (lambda x: by - by * x) if results.errors else (lambda x: by * x)
        figures["curves"] = _epochs(results, measured, f"{split} {what}{percent}", scale)
    if losses := _by_place(results, lambda row, o: _curve(row, "loss/total")):
        figures["losses"] = _epochs(results, losses, "training loss (weighted sum)", lambda x: x)
    return [write(figure, directory / f"{name}.png") for name, figure in figures.items()]


def _by_place(
    results: Results, read: Callable[[Row, Outcome], _Found | None]
) -> dict[_Place, _Found]:
    """Return what to draw of each row, if there is anything."""
    found = {(row.setting, row.arm): row.outcome and read(row, row.outcome) for row in results.rows}
    return {place: each for place, each in found.items() if each}


def _difference(row: Row, outcome: Outcome) -> _Dots | None:
    found = outcome.difference
    if found is None:
        return None
    by = outcome.scale
    half = None if found.high is None else by * (found.high - found.mean)
    return by * found.mean, half, [by * value for value in found.values.values()]


def _value(row: Row, outcome: Outcome) -> _Dots:
    test, by = outcome.test, outcome.scale
    half = None if test.std is None else by * test.std
    return by * test.mean, half, [by * value for value in test.values.values()]


def _curve(row: Row, name: str) -> Band | None:
    """Return the band of a name in metrics.jsonl; None for fewer than two epochs."""
    files = [row.cells[seed].run_dir / "metrics.jsonl" for seed in row.runs]
    band = together([dict(points(read_epochs(file), name)) for file in files])
    return band if len(band.x) > 1 else None


def _rows(results: Results, dots: dict[_Place, _Dots], label: str) -> "Figure":
    """Draw a panel per setting in which every arm is a row, the first one at the top."""
    arms = [arm for arm in results.arms if any(arm == of for _, of in dots)]
    height, margin = _ROW * len(arms) + _AROUND, _LETTER * max(map(len, arms))
    figure, panel, columns = _panels(dots, height=height, margin=margin)
    looks = _looks(results.arms)
    for (setting, arm), (mean, half, values) in dots.items():
        axes, at, (color, _) = panel[setting], arms.index(arm), looks[arm]
        axes.errorbar(mean, at, xerr=half, fmt="o", color=color, markersize=5, capsize=3)
        below = [at + _BELOW] * len(values)
        axes.plot(values, below, "o", color=color, markersize=3, alpha=0.45, markeredgewidth=0)
    for number, axes in enumerate(panel.values()):
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_yticks(range(len(arms)), arms if number % columns == 0 else [""] * len(arms))
    figure.supxlabel(label, fontsize=10)
    return figure


def _around_zero(panels: list["Axes"]) -> None:
    """Give all panels a line at zero, and the same range of values."""
    for axes in panels:
        axes.axvline(0, color="black", linewidth=0.8)
    low, high = zip(*(axes.get_xlim() for axes in panels), strict=True)
    for axes in panels:
        axes.set_xlim(min(low), max(high))


def _epochs(
    results: Results, curves: dict[_Place, Band], label: str, scale: Callable[[NDArray], NDArray]
) -> "Figure":
    """Draw a panel per setting with a curve per arm, and a legend beside them."""
    arms = [arm for arm in results.arms if any(arm == of for _, of in curves)]
    margin = 0.6 + _LETTER * max(map(len, arms))
    figure, panel, _ = _panels(curves, height=_HEIGHT, margin=margin)
    lines, looks = {}, _looks(results.arms)
    for (setting, arm), band in curves.items():
        color, style = looks[arm]
        (lines[arm],) = panel[setting].plot(
            band.x, scale(band.mean), style, color=color, linewidth=1.2
        )
        low, high = scale(band.mean - band.std), scale(band.mean + band.std)
        panel[setting].fill_between(band.x, low, high, color=color, alpha=0.12, linewidth=0)
    for axes in panel.values():
        axes.locator_params(axis="x", integer=True)
    figure.supxlabel("epoch\nmean over the seeds, band: one standard deviation", fontsize=10)
    figure.supylabel(label, fontsize=10)
    shown = [lines[arm] for arm in arms]
    figure.legend(shown, arms, loc="outside right upper", frameon=False)
    return figure


def _looks(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return colour and line style by arm: `+init` and `+kd` keep the colour."""
    looks, known = {}, []
    for arm in arms:
        plain = arm.removesuffix("+kd").removesuffix("+init")
        if plain not in known:
            known.append(plain)
        turn, hue = divmod(known.index(plain), _HUES)
        style = _VARIANTS.index(arm.removeprefix(plain)) + turn
        looks[arm] = COLORS[hue], _STYLES[style % len(_STYLES)]
    return looks


def _panels(
    places: Iterable[_Place], *, height: float, margin: float
) -> tuple["Figure", dict[str, "Axes"], int]:
    """Return a figure with a panel per setting, the panels, and the number of columns."""
    settings = list(dict.fromkeys(setting for setting, _ in places))
    count = len(settings)
    columns = count if count <= 3 else ceil(sqrt(count))
    lines = ceil(count / columns)
    figure, axes = panels(columns, lines)
    figure.set_size_inches(_WIDTH * columns + margin, height * lines)
    for unused in axes[count:]:
        unused.set_visible(False)
    by_setting = dict(zip(settings, axes[:count], strict=True))
    for setting, each in by_setting.items():
        each.set_title(fill(setting, 45), fontsize=10)
    return figure, by_setting, columns
