"""Figures as inline SVG. Colours are the page's: classes `c0` to `c7`, `axis`, `grid`.

ElementTree escapes every text. Figures are as wide as a phone's screen and scale with their box, so
that their text can be read there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from kdx.report.scales import Scale, scale_of, written
from kdx.util.words import printable

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 40  # around the plot
HUES = 8
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
    series: Sequence[Line], *, x: str, y: str, marks: Sequence[float] = (), log: bool = False
) -> Markup:
    """Draw lines over x, which is counted in whole numbers; values that are not finite are gaps.

    `marks` are dotted verticals. Line n has the colour `c<n>`.
    """
    places = [at for line in series for at, _ in line.points]
    values = [v for line in series for _, v in line.points]
    values += [v for line in series for _, *ends in line.band for v in ends]
    across, up = scale_of(places, whole=True), scale_of(values, log=log)
    svg = _canvas(HEIGHT, f"{y} by {x}")
    to_x, to_y = _axes(svg, across, up, x, y)
    for mark in marks:
        _add(svg, "line", "mark", x1=to_x(mark), x2=to_x(mark), y1=TOP, y2=HEIGHT - BOTTOM)
    for number, line in enumerate(series):
        hue = f"c{number % HUES}"
        if line.band:
            edge = [(a, high) for a, _, high in line.band]
            edge += [(a, low) for a, low, _ in reversed(line.band)]
            points = " ".join(f"{to_x(a):.1f},{to_y(v):.1f}" for a, v in edge)
            _add(svg, "polygon", f"band {hue}", points=points)
        drawn = [(to_x(a), to_y(v)) if isfinite(v) else None for a, v in _thinned(line.points)]
        path = "".join(
            f"{'L' if before else 'M'}{at[0]:.1f} {at[1]:.1f}"
            for before, at in pairwise([None, *drawn])
            if at
        )
        _add(svg, "path", f"line {hue}" + " dashed" * (number >= HUES), d=path)
        if len(line.points) <= MARKED:
            for (a, value), at in zip(line.points, drawn, strict=True):
                if at:
                    dot = _add(svg, "circle", hue, cx=at[0], cy=at[1], r=2.4)
                    _text(dot, "title", f"{line.label}, {x} {written(a)}: {value:.5g}")
    return _finished(svg)


def dots(rows: Sequence[Dots], *, x: str, zero: bool = False) -> Markup:
    """Draw a row for each: its mean with a bar, and small points below it for its values.

    `zero`: the axis contains 0, which has a line.
    """
    ends = [v for row in rows for v in (row.mean, row.low, row.high, *row.values) if v is not None]
    across, step = scale_of([*ends, *[0.0] * zero]), 44
    bottom = TOP + step * len(rows)
    svg = _canvas(bottom + BOTTOM, x)
    to_x = _across(svg, across, x, bottom, left=12)
    _text(svg, "text", "arm", "ylabel", x=12, y=14)
    if zero:
        _add(svg, "line", "axis", x1=to_x(0), x2=to_x(0), y1=TOP, y2=bottom)
    for number, row in enumerate(rows):
        top, hue = TOP + step * number, f"c{row.hue % HUES}"
        _text(svg, "text", _short(row.label, 60), "tick", x=12, y=top + 12)
        if row.low is not None and row.high is not None:
            _add(svg, "line", f"line {hue}", x1=to_x(row.low), x2=to_x(row.high), y1=top + 22,
                 y2=top + 22)  # fmt: skip
        dot = _add(svg, "circle", hue, cx=to_x(row.mean), cy=top + 22, r=4)
        _text(dot, "title", f"{row.label}: {row.mean:.5g}")
        for value in row.values:
            _add(svg, "circle", f"faint {hue}", cx=to_x(value), cy=top + 32, r=2.4)
    return _finished(svg)


def heat(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """Draw a confusion matrix [C, C], true classes by row, each cell's share of its row as colour.

    Up to 12 classes have numbers in their cells, up to 30 names at the axes.
    """
    count, named = len(counts), len(counts) <= 30
    size = max(3.0, 330 / count)
    longest = min(14, max(map(len, names))) if named else 0
    left, top = 30 + 6.4 * longest, 30 + 6.4 * longest * 0.8
    svg = _canvas(top + size * count + 12, "confusion matrix: true class by predicted class",
                  width=left + size * count + 12)  # fmt: skip
    _text(svg, "text", "predicted class", "xlabel", x=left, y=14)
    turned = f"rotate(-90 14 {top + size * count:.0f})"
    _text(svg, "text", "true class", "ylabel", x=14, y=top + size * count, transform=turned)
    for row, line in enumerate(counts):
        total, y = sum(line) or 1, top + size * row
        if named:
            _text(svg, "text", _short(names[row], 14), "tick end", x=left - 6, y=y + size / 2 + 4)
            x = left + size * (row + 0.5)
            turned = f"rotate(-50 {x:.0f} {top - 6:.0f})"
            _text(svg, "text", _short(names[row], 14), "tick", x=x, y=top - 6, transform=turned)
        for column, value in enumerate(line):
            if not value:
                continue
            share, x = value / total, left + size * column
            hue = "c2" if row == column else "c1"
            cell = _add(svg, "rect", hue, x=x, y=y, width=size, height=size,
                        **{"fill-opacity": round(0.08 + 0.92 * share, 3)})  # fmt: skip
            if count <= 30:
                said = f"{names[row]} as {names[column]}: {value:,} ({share:.1%})"
                _text(cell, "title", said)
            if count <= 12:
                kind = "cell strong" if share > 0.55 else "cell"
                _text(svg, "text", f"{value:,}", kind, x=x + size / 2, y=y + size / 2 + 4)
    _add(svg, "rect", "frame", x=left, y=top, width=size * count, height=size * count)
    return _finished(svg)


def reliability(bins: Sequence[tuple[float, float, int, float | None, float | None]]) -> Markup:
    """Draw a reliability diagram of bins (low, high, count, confidence, accuracy).

    Bars are the accuracy of a bin, the diagonal is perfect calibration, and ticks on the bars are
    the mean confidence; the lower panel has the number of images, relative to the largest bin.
    """
    unit = Scale(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1])
    most, panel = max((each[2] for each in bins), default=0) or 1, 60
    svg = _canvas(HEIGHT + panel, "accuracy by confidence")
    to_x, to_y = _axes(svg, unit, unit, "confidence", "accuracy", below=panel)
    base = HEIGHT - BOTTOM
    to_share = Scale(0, 1, []).onto(base + panel, base + 18)
    for low, high, count, confidence, accuracy in bins:
        x, width = to_x(low) + 1, to_x(high) - to_x(low) - 2
        if not count or accuracy is None or confidence is None:
            continue
        bar = _add(svg, "rect", "c0 bar", x=x, y=to_y(accuracy), width=width,
                   height=to_y(0) - to_y(accuracy))  # fmt: skip
        said = f"confidence {confidence:.3f}, accuracy {accuracy:.3f}, {count:,} images"
        _text(bar, "title", said)
        y = to_y(confidence)
        _add(svg, "line", "line c1", x1=x, x2=x + width, y1=y, y2=y)
        y = to_share(count / most)
        _add(svg, "rect", "c7 bar", x=x, y=y, width=width, height=base + panel - y)
    _add(svg, "line", "mark", x1=to_x(0), y1=to_y(0), x2=to_x(1), y2=to_y(1))
    _text(svg, "text", "images in each bin", "tick", x=LEFT + 4, y=base + 14)
    return _finished(svg)


def _axes(svg: Element, across: Scale, up: Scale, x: str, y: str, *, below: float = 0):
    """Draw grid, ticks and labels of both axes; return what places x and y.

    The x axis is `below` the plot by that much.
    """
    base = HEIGHT - BOTTOM
    to_y = up.onto(base, TOP)
    for tick in up.ticks:
        _add(svg, "line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=to_y(tick), y2=to_y(tick))
        _text(svg, "text", written(tick), "tick end", x=LEFT - 6, y=to_y(tick) + 4)
    _text(svg, "text", y, "ylabel", x=4, y=14)
    return _across(svg, across, x, base + below), to_y


def _across(svg: Element, scale: Scale, label: str, base: float, *, left: float = LEFT):
    """Draw the x axis at `base`; return what places x."""
    to_x = scale.onto(left + 4, WIDTH - RIGHT - 6)
    _add(svg, "line", "axis", x1=left, x2=WIDTH - RIGHT, y1=base, y2=base)
    for tick in scale.ticks:
        _add(svg, "line", "axis", x1=to_x(tick), x2=to_x(tick), y1=base, y2=base + 4)
        _text(svg, "text", written(tick), "tick middle", x=to_x(tick), y=base + 17)
    _text(svg, "text", label, "xlabel end", x=WIDTH - RIGHT, y=base + 34)
    return to_x


def _canvas(height: float, title: str, *, width: float = WIDTH) -> Element:
    box = f"0 0 {width:.0f} {height:.0f}"
    svg = Element("svg", {"viewBox": box, "role": "img", "aria-label": printable(title)})
    svg.set("xmlns", "http://www.w3.org/2000/svg")
    return svg


def _add(parent: Element, tag: str, kind: str = "", **attributes: object) -> Element:
    """Add an element of a class; numbers get one digit after the point."""
    texts = {
        name: f"{value:.1f}" if isinstance(value, float) and name != "fill-opacity" else str(value)
        for name, value in attributes.items()
    }
    return SubElement(parent, tag, {"class": kind} | texts if kind else texts)


def _text(parent: Element, tag: str, text: str, kind: str = "", **attributes: object) -> None:
    _add(parent, tag, kind, **attributes).text = printable(text)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most about `MOST` points, evenly spaced, with the last one."""
    step = -(-len(points) // MOST) or 1
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _finished(svg: Element) -> Markup:
    return Markup(tostring(svg, encoding="unicode"))
