"""A plain text table."""

from collections.abc import Collection, Sequence

__all__ = ["table"]


def table(lines: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Align rows in columns, the first row as heading; columns in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([rows[0], "  ".join("-" * width for width in widths), *rows[1:]])
