"""The figures of loss landscapes: curves and surfaces."""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from kdx.util.printing import say
from kdx.util.words import counted
from kdx_lab.analysis.bands import Band, percent, together
from kdx_lab.analysis.directions import half_width
from kdx_lab.analysis.drawing import caption, color_of, draw_band, finish, legend
from kdx_lab.analysis.figures import panels
from kdx_lab.analysis.grid import Landscape, LandscapeGrid, Landscapes
from kdx_lab.analysis.runs import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm

__all__ = ["RISE", "draw_curves", "draw_surfaces"]

RISE = 1.0
"""The rise of the loss at which the half-width is measured."""

KINDS = {"compact": "compact network", "trained": "network as trained (expanded)"}
NOTE = "networks as trained have different shapes: compare the compact ones instead"
STEP = "step along a random direction (in norms of the filters)"
LEVELS = 15  # of a surface, from its minimum to its maximum loss, logarithmically
LEAST, MOST = 1e-3, 1e3  # the lowest level, and the highest as a multiple of the lowest
COLUMNS = 3


def draw_curves(
    groups: Sequence[Group],
    found: Sequence[Sequence[Landscapes]],
    grid: LandscapeGrid,
    output: Path,
    console: Console,
) -> Path:
    """Draw loss and error along a line to landscape_1d.png; print how wide the minima are."""
    kinds = _kinds(found)
    numbers = [
        group.about | {kind: _of_group([run[kind] for run in runs], grid) for kind in kinds}
        for group, runs in zip(groups, found, strict=True)
    ]
    figure, axes = panels(len(kinds), 2)
    for column, kind in enumerate(kinds):
        loss, error = axes[column], axes[len(kinds) + column]
        for index, (group, each) in enumerate(zip(groups, numbers, strict=True)):
            color = color_of(index)
            draw_band(loss, each[kind]["loss"], color=color, label=group.heading)
            draw_band(error, percent(each[kind]["error"]), color=color)
            say(console, _line(group, kind, each[kind]["half-widths"], grid))
        images = _images(found[0][0][kind])
        loss.set(title=KINDS[kind], ylabel=f"loss on {images}")
        error.set(xlabel=STEP, ylabel=f"error on {images} [%]", ylim=(0, 100))
    _scale(axes[: len(kinds)], [each[kind]["loss"] for each in numbers for kind in kinds])
    note = NOTE if len(kinds) > 1 else ""
    legend(figure, axes[0], caption=caption(groups, note))
    about = {"grid": vars(grid), "at": grid.line, "rise": RISE, "note": note, "groups": numbers}
    return finish(figure, output / "landscape_1d.png", about, console)


def draw_surfaces(
    groups: Sequence[Group],
    found: Sequence[Sequence[Landscapes]],
    grid: LandscapeGrid,
    output: Path,
    console: Console,
) -> Path:
    """Draw the loss over a plane, a panel per run, to landscape_2d_<network>.png per network."""
    path = output
    for kind in _kinds(found):
        runs = {
            f"{group.label}, seed {run.recipe.seed}": each[kind]
            for group, landscapes in zip(groups, found, strict=True)
            for run, each in zip(group.runs, landscapes, strict=True)
        }
        path = _draw_plane(runs, kind, grid, output, console)
    return path


def _draw_plane(
    runs: Mapping[str, Landscape], kind: str, grid: LandscapeGrid, output: Path, console: Console
) -> Path:
    from matplotlib.colors import LogNorm

    surfaces = {name: _square(run["loss"], grid) for name, run in runs.items()}
    levels = _levels(list(surfaces.values()))
    columns = min(COLUMNS, len(runs))
    rows = ceil(len(runs) / columns)
    figure, axes = panels(columns, rows)
    figure.set_size_inches(0.8 + 4.2 * columns, 0.5 + 3.9 * rows)  # squares, and the colour bar
    scale = LogNorm(levels[0], levels[-1])
    for panel, (name, surface) in zip(axes[: len(runs)], surfaces.items(), strict=True):
        _fill(panel, surface, grid, levels, scale)
        panel.set(title=name, aspect="equal", xlabel="step along the first direction")
    for panel in axes[::columns]:
        panel.set_ylabel("step along the second direction")
    for panel in axes[len(runs) :]:
        panel.set_visible(False)
    figure.colorbar(
        axes[0].collections[0], ax=axes, aspect=30, format=lambda level, _: _short(level),
        label=f"loss on {_images(next(iter(runs.values())))}",
    )  # fmt: skip
    note = NOTE if kind == "trained" and len(runs) > 1 else ""
    title = f"{KINDS[kind]}; steps in norms of the filters"
    figure.suptitle("\n".join(filter(None, (title, note))), fontsize="medium")
    numbers = {"grid": vars(grid), "at": grid.line, "network": kind, "levels": levels, "note": note}
    about = numbers | {"runs": {n: dict(run) | {"loss": surfaces[n]} for n, run in runs.items()}}
    return finish(figure, output / f"landscape_2d_{kind}.png", about, console)


def _fill(
    panel: "Axes",
    surface: np.ma.MaskedArray,
    grid: LandscapeGrid,
    levels: NDArray,
    scale: "LogNorm",
) -> None:
    """Draw a surface in colours, every other level as a line, and the network as a cross."""
    places = grid.line, grid.line
    panel.contourf(*places, surface, levels, norm=scale, cmap="viridis", extend="both")
    lines = panel.contour(*places, surface, levels[::2], colors="black", linewidths=0.6)
    panel.clabel(lines, fmt=_short, fontsize="small")
    panel.plot(0, 0, "+", color="white")


def _scale(panels: Sequence["Axes"], bands: Sequence[Band]) -> None:
    """Give panels of losses one logarithmic scale, over the range of the means."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    means = np.concatenate([band.mean for band in bands])
    low, high = 0.8 * max(float(means.min()), LEAST), 1.25 * float(means.max())
    for axes in panels:
        axes.set(yscale="log", ylim=(low, high))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """Return two significant digits, without an exponent: 0.13, 1.5, 130."""
    return f"{float(f'{value:.2g}'):g}"


def _kinds(found: Sequence[Sequence[Landscapes]]) -> list[str]:
    """Return the kinds of networks: "trained" only if any was expanded."""
    expanded = any(each["trained"] != each["compact"] for runs in found for each in runs)
    return ["compact", "trained"] if expanded else ["compact"]


def _of_group(runs: Sequence[Landscape], grid: LandscapeGrid) -> dict[str, Any]:
    """Return bands over runs of the same network, and the half-width of each."""
    curves = {name: [_numbers(run[name]) for run in runs] for name in ("loss", "error")}
    bands = {
        name: together([dict(zip(grid.line, each.tolist(), strict=True)) for each in series])
        for name, series in curves.items()
    }
    risen = [np.nan_to_num(each, nan=np.inf, posinf=np.inf) for each in curves["loss"]]
    widths = [half_width(grid.line, each.tolist(), RISE) for each in risen]
    counts = {name: runs[0][name] for name in ("images", "parameters", "moved")}
    return counts | bands | {"half-widths": widths, "loss of runs": curves["loss"]}


def _line(group: Group, kind: str, widths: Sequence[float], grid: LandscapeGrid) -> str:
    """Return the width of a group's minima: `cl_fc (n = 2)  compact: half-width 0.21 +- 0.02`."""
    within = np.array([width for width in widths if isfinite(width)])
    without = len(widths) - len(within)
    spread = f" +- {within.std(ddof=1):.3f}" if len(within) > 1 else ""
    mean = f"{within.mean():.3f}{spread}" if len(within) else ""
    beyond = f"more than {grid.span:g} in {counted(without, 'run')}" if without else ""
    return f"{group.heading}  {kind}: half-width {', '.join(filter(None, (mean, beyond)))}"


def _levels(surfaces: Sequence[np.ma.MaskedArray]) -> NDArray:
    """Return levels for all surfaces, logarithmically spaced."""
    finite = np.concatenate([each.compressed() for each in surfaces])
    low = max(float(finite.min()), LEAST)
    high = min(max(float(finite.max()), 1.01 * low), MOST * low)
    return np.geomspace(low, high, LEVELS)


def _square(losses: Sequence[float | None], grid: LandscapeGrid) -> np.ma.MaskedArray:
    """Return losses [points * points] as a square, the first direction to the right."""
    square = _numbers(losses).reshape(grid.points, grid.points).T
    return np.ma.masked_invalid(square)


def _numbers(values: Sequence[float | None]) -> NDArray:
    return np.array([np.nan if value is None else value for value in values])


def _images(landscape: Landscape) -> str:
    return f"{landscape['images']:,} training images"
