"""Shared by the figures: bands, stages, legends, and the JSON file with their numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kdx.util.printing import say
from kdx_lab.analysis.bands import Band, write_numbers
from kdx_lab.analysis.figures import COLORS, write
from kdx_lab.analysis.runs import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_epoch", "caption", "color_of", "dotted", "draw_band", "finish", "legend"]

MARKED = 30  # points at most that each have a marker


def color_of(index: int) -> str:
    """Return the colour of a group by its index."""
    return COLORS[index % len(COLORS)]


def draw_band(
    axes: "Axes", band: Band, *, color: str, label: str = "", dashed: bool = False
) -> None:
    """Draw the mean as a line and, unless dashed, one standard deviation around it."""
    style, mark = "--" if dashed else "-", "o" if len(band.x) <= MARKED else ""
    axes.plot(band.x, band.mean, style, marker=mark, markersize=3, color=color, label=label)
    if band.std.any() and not dashed:
        low, high = band.mean - band.std, band.mean + band.std
        axes.fill_between(band.x, low, high, color=color, alpha=0.15, linewidth=0)


def by_epoch(panels: Sequence["Axes"], groups: Sequence[Group]) -> None:
    """Label the x axes with epochs; mark, in a group's colour, where its next stage begins."""
    from matplotlib.ticker import MaxNLocator

    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for index, group in enumerate(groups):
        for end in group.runs[0].stage_ends:
            for axes in panels:
                axes.axvline(end + 0.5, color=color_of(index), linestyle=":", linewidth=1.2)


def dotted(groups: Sequence[Group]) -> str:
    """Return the caption of the vertical lines of `by_epoch`, if it draws any."""
    return "dotted: the next stage" if any(group.runs[0].stage_ends for group in groups) else ""


def caption(groups: Sequence[Group], *more: str) -> str:
    """Return the caption of a figure: what its bands are, if it has any, and `more`."""
    repeated = any(len(group.runs) > 1 for group in groups)
    bands = "mean and one standard deviation over seeds" if repeated else ""
    return "; ".join(filter(None, (bands, *more)))


def legend(figure: "Figure", axes: "Axes", *, caption: str = "") -> None:
    """Put the legend of a panel's lines below all panels, under a caption."""
    handles, labels = axes.get_legend_handles_labels()
    inches = 0.6 + 0.08 * max(map(len, labels), default=0)
    columns = min(max(1, int(figure.get_figwidth() / inches)), len(labels))
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False,
        title=caption or None, title_fontsize="small",
    )  # fmt: skip


def finish(figure: "Figure", path: Path, numbers: Mapping[str, Any], console: Console) -> Path:
    """Write a figure and its numbers; print where."""
    write_numbers(path.with_suffix(".json"), numbers)
    write(figure, path)
    say(console, f"figure   {path}")
    return path
