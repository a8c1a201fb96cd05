"""The confusion matrix as inline SVG."""

from collections.abc import Sequence

from markupsafe import Markup

from kdx.report.svg import add, canvas, finished, short, text


def heat(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """Draw a confusion matrix [C, C], true classes by row, each cell's share of its row as colour.

    Up to 12 classes have numbers in their cells, up to 30 names at the axes.
    """
    count, named = len(counts), len(counts) <= 30
    size = max(3.0, 330 / count)
    longest = min(14, max(map(len, names))) if named else 0
    left, top, right = 30 + 6.4 * longest, 32 + 5.2 * longest, 12 + 4.2 * longest
    svg = canvas(top + size * count + 12, "confusion matrix: true class by predicted class",
                  width=left + size * count + right)  # fmt: skip
    text(svg, "text", "predicted class", "xlabel", x=left, y=14)
    turned = f"rotate(-90 14 {top + size * count:.0f})"
    text(svg, "text", "true class", "ylabel", x=14, y=top + size * count, transform=turned)
    for row, line in enumerate(counts):
        total, y = sum(line) or 1, top + size * row
        if named:
            text(svg, "text", short(names[row], 14), "tick end", x=left - 6, y=y + size / 2 + 4)
            x = left + size * (row + 0.5)
            turned = f"rotate(-50 {x:.0f} {top - 6:.0f})"
            text(svg, "text", short(names[row], 14), "tick", x=x, y=top - 6, transform=turned)
        for column, value in enumerate(line):
            if not value:
                continue
            share, x = value / total, left + size * column
            hue = "c2" if row == column else "c1"
            cell = add(svg, "rect", hue, x=x, y=y, width=size, height=size,
                        **{"fill-opacity": round(0.08 + 0.92 * share, 3)})  # fmt: skip
            if count <= 30:
                tooltip = f"{names[row]} as {names[column]}: {value:,} ({share:.1%})"
                text(cell, "title", tooltip)
            if count <= 12:
                kind = "cell strong" if share > 0.55 else "cell"
                text(svg, "text", f"{value:,}", kind, x=x + size / 2, y=y + size / 2 + 4)
    add(svg, "rect", "frame", x=left, y=top, width=size * count, height=size * count)
    return finished(svg)
