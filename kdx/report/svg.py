"""Inline SVG: a canvas, axes, texts. Colours are the page's: classes `c0` to `c7`, `axis`, `grid`.

ElementTree escapes every text. Figures are as wide as a phone's screen and scale with their box, so
that their text can be read there.
"""

from collections.abc import Callable
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from kdx.report.scales import Scale, written
from kdx.util.words import printable

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 40  # around the plot
HUES = 8

Place = Callable[[float], float]
"""Returns the coordinate of a value."""


def axes(
    svg: Element, right: Scale, up: Scale, x: str, y: str, *, below: float = 0
) -> tuple[Place, Place]:
    """Draw grid, ticks and labels of both axes; return what places x and y.

    The x axis is `below` the plot by that much.
    """
    base = HEIGHT - BOTTOM
    to_y = up.onto(base, TOP)
    for tick in up.ticks:
        add(svg, "line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=to_y(tick), y2=to_y(tick))
        text(svg, "text", written(tick), "tick end", x=LEFT - 6, y=to_y(tick) + 4)
    text(svg, "text", y, "ylabel", x=4, y=14)
    return across(svg, right, x, base + below), to_y


def across(svg: Element, scale: Scale, label: str, base: float, *, left: float = LEFT) -> Place:
    """Draw the x axis at `base`; return what places x."""
    to_x = scale.onto(left + 4, WIDTH - RIGHT - 6)
    add(svg, "line", "axis", x1=left, x2=WIDTH - RIGHT, y1=base, y2=base)
    for tick in scale.ticks:
        add(svg, "line", "axis", x1=to_x(tick), x2=to_x(tick), y1=base, y2=base + 4)
        text(svg, "text", written(tick), "tick middle", x=to_x(tick), y=base + 17)
    text(svg, "text", label, "xlabel end", x=WIDTH - RIGHT, y=base + 34)
    return to_x


def canvas(height: float, title: str, *, width: float = WIDTH) -> Element:
    """Return an empty figure with a title for screen readers."""
    box = f"0 0 {width:.0f} {height:.0f}"
    svg = Element("svg", {"viewBox": box, "role": "img", "aria-label": printable(title)})
    svg.set("xmlns", "http://www.w3.org/2000/svg")
    return svg


def add(parent: Element, tag: str, kind: str = "", **attributes: object) -> Element:
    """Add an element of a class; numbers get one digit after the point."""
    texts = {
        name: f"{value:.1f}" if isinstance(value, float) and name != "fill-opacity" else str(value)
        for name, value in attributes.items()
    }
    return SubElement(parent, tag, {"class": kind} | texts if kind else texts)


def text(parent: Element, tag: str, content: str, kind: str = "", **attributes: object) -> None:
    """Add an element with a text."""
    add(parent, tag, kind, **attributes).text = printable(content)


def short(name: str, most: int) -> str:
    """Return a name of at most so many characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def finished(svg: Element) -> Markup:
    """Return a figure as it stands in a page."""
    return Markup(tostring(svg, encoding="unicode"))
