"""Charts as inline SVG: lines, rows of dots with bars, the reliability diagram."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from markupsafe import Markup

from kdx.report.scales import Scale, scale_of, written
from kdx.report.svg import (
    BOTTOM,
    HEIGHT,
    HUES,
    LEFT,
    TOP,
    across,
    add,
    axes,
    canvas,
    finished,
    short,
    text,
)

MOST = 400  # points of a line; of more, evenly spaced ones are drawn
MARKED = 30  # points of a line that each have a marker with their values


@dataclass(frozen=True)
class Line:
    """A named line of points (x, y), and a band of (x, low, high) around it."""

    label: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Dots:
    """A row of `dots`: a mean with the ends of its bar, and single values, in the colour `hue`."""

    label: str
    mean: float
    low: float | None
    high: float | None
    values: Sequence[float] = ()
    hue: int = 0


def lines(
    series: Sequence[Line],
    *,
    x: str,
    y: str,
    marks: Sequence[float] = (),
    log: bool = False,
    joined: bool = True,
) -> Markup:
    """Draw lines over x, which is counted in whole numbers; values that are not finite are gaps.

    `marks` are dotted verticals. Line n has the colour `c<n>`. Without `joined`, points alone.
    """
    places = [at for line in series for at, _ in line.points]
    values = [v for line in series for _, v in line.points]
    values += [v for line in series for _, *ends in line.band for v in ends]
    bottom, up = scale_of(places, whole=True), scale_of(values, log=log)
    svg = canvas(HEIGHT, f"{y} by {x}")
    to_x, to_y = axes(svg, bottom, up, x, y)
    for mark in marks:
        add(svg, "line", "mark", x1=to_x(mark), x2=to_x(mark), y1=TOP, y2=HEIGHT - BOTTOM)
    for number, line in enumerate(series):
        hue = f"c{number % HUES}"
        if line.band:
            edge = [(a, high) for a, _, high in line.band]
            edge += [(a, low) for a, low, _ in reversed(line.band)]
            points = " ".join(f"{to_x(a):.1f},{to_y(v):.1f}" for a, v in edge)
            add(svg, "polygon", f"band {hue}", points=points)
        drawn = [(to_x(a), to_y(v)) if isfinite(v) else None for a, v in _thinned(line.points)]
        path = "".join(
            f"{'L' if before else 'M'}{at[0]:.1f} {at[1]:.1f}"
            for before, at in pairwise([None, *drawn])
            if at
        )
        if joined:
            add(svg, "path", f"line {hue}" + " dashed" * (number >= HUES), d=path)
        if not joined or len(line.points) <= MARKED:
            for (a, value), at in zip(line.points, drawn, strict=True):
                if at:
                    dot = add(svg, "circle", hue, cx=at[0], cy=at[1], r=2.4)
                    text(dot, "title", f"{line.label}, {x} {written(a)}: {value:.5g}")
    return finished(svg)


def dots(rows: Sequence[Dots], *, x: str, zero: bool = False) -> Markup:
    """Draw a row for each: its mean with a bar, and small points below it for its values.

    `zero`: the axis contains 0, which has a line.
    """
    ends = [v for row in rows for v in (row.mean, row.low, row.high, *row.values) if v is not None]
    scale, step = scale_of([*ends, *[0.0] * zero]), 44
    bottom = TOP + step * len(rows)
    svg = canvas(bottom + BOTTOM, x)
    to_x = across(svg, scale, x, bottom, left=12)
    text(svg, "text", "arm", "ylabel", x=12, y=14)
    if zero:
        add(svg, "line", "axis", x1=to_x(0), x2=to_x(0), y1=TOP, y2=bottom)
    for number, row in enumerate(rows):
        top, hue = TOP + step * number, f"c{row.hue % HUES}"
        text(svg, "text", short(row.label, 60), "tick", x=12, y=top + 12)
        if row.low is not None and row.high is not None:
            add(svg, "line", f"line {hue}", x1=to_x(row.low), x2=to_x(row.high), y1=top + 22,
                 y2=top + 22)  # fmt: skip
        dot = add(svg, "circle", hue, cx=to_x(row.mean), cy=top + 22, r=4)
        text(dot, "title", f"{row.label}: {row.mean:.5g}")
        for value in row.values:
            add(svg, "circle", f"faint {hue}", cx=to_x(value), cy=top + 32, r=2.4)
    return finished(svg)


def reliability(bins: Sequence[tuple[float, float, int, float | None, float | None]]) -> Markup:
    """Draw a reliability diagram of bins (low, high, count, confidence, accuracy).

    Bars are the accuracy of a bin, the diagonal is perfect calibration, and ticks on the bars are
    the mean confidence; the lower panel has the number of images, relative to the largest bin.
    """
    unit = Scale(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1])
    most, panel = max((each[2] for each in bins), default=0) or 1, 60
    svg = canvas(HEIGHT + panel, "accuracy by confidence")
    to_x, to_y = axes(svg, unit, unit, "confidence", "accuracy", below=panel)
    base = HEIGHT - BOTTOM
    to_share = Scale(0, 1, []).onto(base + panel, base + 18)
    for low, high, count, confidence, accuracy in bins:
        x, width = to_x(low) + 1, to_x(high) - to_x(low) - 2
        if not count or accuracy is None or confidence is None:
            continue
        bar = add(svg, "rect", "c0 bar", x=x, y=to_y(accuracy), width=width,
                   height=to_y(0) - to_y(accuracy))  # fmt: skip
        tooltip = f"confidence {confidence:.3f}, accuracy {accuracy:.3f}, {count:,} images"
        text(bar, "title", tooltip)
        y = to_y(confidence)
        add(svg, "line", "line c1", x1=x, x2=x + width, y1=y, y2=y)
        y = to_share(count / most)
        add(svg, "rect", "c7 bar", x=x, y=y, width=width, height=base + panel - y)
    add(svg, "line", "mark", x1=to_x(0), y1=to_y(0), x2=to_x(1), y2=to_y(1))
    text(svg, "text", "images in each bin", "tick", x=LEFT + 4, y=base + 14)
    return finished(svg)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most about `MOST` points, evenly spaced, with the last one."""
    step = -(-len(points) // MOST) or 1
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
