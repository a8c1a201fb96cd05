"""Tables in Markdown."""

from collections.abc import Sequence


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a Markdown table, also aligned as text: the first `left` columns to the left."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (headings, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    ends = ("-" if i < left else ":" for i in range(len(widths)))
    lines.insert(1, [f"{'-' * (width - 1)}{end}" for width, end in zip(widths, ends, strict=True)])
    return "\n".join(f"| {' | '.join(_padded(line, widths, left))} |" for line in lines)


def _padded(line: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    padded = enumerate(zip(line, widths, strict=True))
    return [cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in padded]
