"""What classes.json tells: each class, confusions, mistakes, calibration."""

from collections.abc import Sequence
from math import inf

from kdx.report.blocks import Bar, Block, Cell, Figure, Fold, Pictures, Section, Table, Text
from kdx.report.charts import reliability
from kdx.report.contents import Calibration, Classes, nouns
from kdx.report.files import RunFiles
from kdx.report.images import embedded
from kdx.report.matrix import heat
from kdx.util.words import counted, measured

MATRIX = 100  # classes at most whose confusion matrix is drawn
LISTED = 100  # classes at most that are all in the table
OPEN = 30  # of them that are not folded
WORST = 20  # classes, or confusions, that are listed of more


def class_sections(run: RunFiles) -> list[Section]:
    """Return the sections on classes, confusions, mistakes and calibration; [] without the file."""
    classes = run.classes
    if classes is None:
        return []
    found = [
        Section(nouns(classes.metrics, classes.numbers)[1].capitalize(), _table(classes)),
        Section("Confusions", _confusions(classes)),
        Section("Most confident mistakes", _mistakes(run, classes)),
        Section("Calibration", _calibration(classes.calibration)),
    ]
    return [section for section in found if section.blocks]


def _table(classes: Classes) -> list[Block]:
    first = next(iter(classes.metrics.values()), None)
    order = sorted(
        range(len(classes.names)),
        key=lambda n: (
            (inf, n) if first is None or first.values[n] is None else (first.values[n], n)
        ),
    )
    noun, plural = nouns(classes.metrics, classes.numbers)
    heading = [noun, "n", *(metric.heading for metric in classes.metrics.values())]
    many = len(order) > LISTED
    rows = [
        [classes.names[n], f"{classes.count[n]:,}",
         *(_cell(name, metric.values[n], classes.numbers)
           for name, metric in classes.metrics.items())]
        for n in (order[:WORST] if many else order)
    ]  # fmt: skip
    table = Table(heading, rows)
    by = f"by {first.heading}, the lowest first" if first else "in the order of the data set"
    every = counted(len(order), noun, plural)
    shown = f"the {WORST} lowest of {every}" if many else every
    text = f"On {counted(classes.images, f'{classes.split} image')}: {shown}, {by}."
    if many or len(order) <= OPEN:
        return [Text(text), table]
    return [Text(text), Table(heading, rows[:WORST]), Fold(f"All {len(order)} {plural}", [table])]


def _cell(name: str, value: float | None, numbers: Sequence[str]) -> Cell:
    if value is None:
        return "-"
    text = measured(name, value, numbers)
    return text if name in numbers else Bar(text, min(1.0, max(0.0, value)))


def _confusions(classes: Classes) -> list[Block]:
    matrix = classes.confusion
    if matrix is None:
        return []
    blocks: list[Block] = []
    if len(matrix) <= MATRIX:
        note = "Colour: the share of the true class. Green: right, orange: confused."
        drawn = heat(matrix, classes.names)
        blocks.append(Figure("Confusion matrix", drawn, note=note, wide=True))
    pairs = sorted(
        ((count, row, column) for row, line in enumerate(matrix)
         for column, count in enumerate(line) if count and row != column),
        key=lambda pair: (-pair[0], pair[1:]),
    )[:WORST]  # fmt: skip
    rows = [
        [classes.names[row], classes.names[column], f"{count:,}",
         Bar(f"{count / sum(matrix[row]):.1%}", count / sum(matrix[row]))]
        for count, row, column in pairs
    ]  # fmt: skip
    if rows:
        heading = ["true class", "predicted as", "n", "share of the true class"]
        blocks.append(Table(heading, rows, words=2))
    return blocks


def _mistakes(run: RunFiles, classes: Classes) -> list[Block]:
    pictures, rows = [], []
    for each in classes.worst:
        true, predicted = classes.names[each.true], classes.names[each.predicted]
        if each.picture:
            caption = f"{true}, predicted {predicted} ({each.confidence:.1%}) · {each.name}"
            pictures.append(embedded(run.path, each.picture, caption))
        rows.append([each.name, true, predicted, f"{each.confidence:.2%}"])
    if not rows:
        return []
    table = Table(["image", "true class", "predicted as", "confidence"], rows, words=3)
    return [Pictures(pictures), Fold("As a table", [table])] if pictures else [table]


def _calibration(calibration: Calibration | None) -> list[Block]:
    if calibration is None:
        return []
    bins = [(b.low, b.high, b.count, b.confidence, b.accuracy) for b in calibration.bins]
    title = f"Reliability diagram: expected calibration error (ECE) {calibration.ece:.2%}"
    note = (
        "Bars: the accuracy of the predictions whose probability lies in the bin; orange: its "
        "mean; dotted: perfect calibration. A bar below its orange line is "
        "overconfident. Below: how many predictions each bin has."
    )
    return [Figure(title, reliability(bins), note=note, wide=True)]
