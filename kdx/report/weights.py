"""The weight ranges of exported students, layer by layer: one run, or several side by side."""

from collections.abc import Mapping, Sequence
from math import isfinite

from kdx.report.blocks import Block, Figure, Fold, Table, Text
from kdx.report.charts import Line, lines
from kdx.report.student_file import WeightRange

OPEN = 30  # layers of a table that is not folded
STATISTICS = {
    "largest |weight|": "largest",
    "std": "std",
    "largest / std": "in_stds",
    "largest / median channel": "channels",
}
ABOUT = (
    "The convolutions and linear layers of the exported student, as they are stored: BatchNorm is "
    "not folded into them. With int8 and one scale for a layer, the step is the largest |weight| "
    "/ 127: the more standard deviations that is, the fewer steps other weights have. Largest / "
    "median channel: the largest |weight| over the median of the output channels' own; where it is "
    "high, a scale for each channel loses less."
)


def weight_blocks(students: Mapping[str, Mapping[str, WeightRange]]) -> list[Block]:
    """Return text, figures and table of the students of runs, by the names of the runs.

    A student without weights at hand has no ranges: {}. [] if all are so.
    """
    layers = list(dict.fromkeys(layer for ranges in students.values() for layer in ranges))
    if not layers:
        return []
    places = [(n, layer) for n, layer in enumerate(layers, 1)]
    figures = [
        _figure(title, places, students, y)
        for title, y in (
            ("Largest weight by layer", "largest / std"),
            ("Spread of the channels by layer", "largest / median channel"),
        )
    ]
    several = len(students) > 1
    heading = ["number", "layer", *(f"{text}, {run}" if several else text
               for text in STATISTICS for run in students)]  # fmt: skip
    rows = [
        [str(number), layer, *(_shown(ranges.get(layer), name)
         for name in STATISTICS.values() for ranges in students.values())]
        for number, layer in places
    ]  # fmt: skip
    table = Table(heading, rows, words=2)
    folded = Fold(f"All {len(rows)} layers", [table]) if len(rows) > OPEN else table
    return [Text(ABOUT), *figures, folded]


def _figure(
    title: str,
    places: Sequence[tuple[int, str]],
    students: Mapping[str, Mapping[str, WeightRange]],
    statistic: str,
) -> Figure:
    series = [
        Line(run, [(number, getattr(ranges[layer], STATISTICS[statistic]))
                   for number, layer in places if layer in ranges])
        for run, ranges in students.items()
    ]  # fmt: skip
    drawn = lines(series, x="layer, by its number in the table", y=statistic, joined=False)
    return Figure(title, drawn, list(students))


def _shown(found: WeightRange | None, name: str) -> str:
    value = getattr(found, name) if found else float("nan")
    return f"{value:.3g}" if isfinite(value) else "-"
