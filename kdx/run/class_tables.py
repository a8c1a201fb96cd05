"""Reports of a student's classes: tables, lines on the terminal, values to log."""

from collections.abc import Sequence

import torch

from kdx.report.contents import nouns
from kdx.run.classes import Classes
from kdx.util.markdown import markdown_table
from kdx.util.words import counted, measured, printable

MOST_ROWS, MOST_COLUMNS = 50, 20  # of the table of classes, and of the confusion matrix
SHOWN = 20  # classes, or confusions, where there are more
FEW = 3  # on the terminal, in one line


def section(classes: Classes) -> str:
    """Return the tables, in Markdown that can be read on a terminal, too."""
    parts = [_about(classes), _by_class(classes)]
    if classes.confusion is not None:
        parts.append(_matrix(classes) if len(classes.names) <= MOST_COLUMNS else _list(classes))
    return "\n\n".join(parts)


def in_brief(classes: Classes) -> list[str]:
    """Return the classes of the lowest values, and the most frequent confusions: two lines."""
    main, (_, plural) = classes.main, named(classes)
    low = ", ".join(
        f"{_name(classes, n)} ({measured(main, v, classes.numbers)})"
        for n, v in lowest(classes)[:FEW]
    )
    lines = [f"{plural}  lowest {classes.metrics[main]['heading']}: {low}"] if low else []
    found = [
        f"{_name(classes, true)} as {_name(classes, predicted)} ({count:,})"
        for count, true, predicted in confusions(classes, FEW)
    ]
    return lines + ([f"         confused: {', '.join(found)}"] if found else [])


def named(classes: Classes) -> tuple[str, str]:
    """Return what the classes are, one and several: they may be labels or outputs."""
    return nouns(classes.metrics, classes.numbers)


def to_log(classes: Classes) -> dict[str, float]:
    """Return what the last epoch's line has of the exported student: of few classes, a value each.

    Such as "exported/recall/<class>" and "exported/ece".
    """
    prefix, few = f"exported/{classes.main}", len(classes.names) <= MOST_ROWS
    pairs = sorted(lowest(classes)) if few else []
    named = {_name(classes, number): value for number, value in pairs}
    ece = {"exported/ece": classes.calibration["ece"]} if classes.calibration else {}
    return {f"{prefix}/{name}": value for name, value in named.items()} | ece


def lowest(classes: Classes) -> list[tuple[int, float]]:
    """Return the classes that have a value of the main metric, and the value, ascending."""
    values = enumerate(classes.metrics[classes.main]["values"])
    return sorted(((n, v) for n, v in values if v is not None), key=lambda each: each[1])


def confusions(classes: Classes, most: int) -> list[tuple[int, int, int]]:
    """Return (count, true class, predicted class) of the most frequent mistakes."""
    matrix = torch.tensor(classes.confusion or [[0]]).fill_diagonal_(0)
    counts, cells = matrix.flatten().sort(descending=True, stable=True)
    pairs = zip(counts[:most].tolist(), cells[:most].tolist(), strict=True)
    side = len(matrix)
    return [(count, cell // side, cell % side) for count, cell in pairs if count]


def _about(classes: Classes) -> str:
    text = f"On {counted(classes.images, f'{classes.split} image')}."
    if classes.calibration:
        ece, bins = classes.calibration["ece"], len(classes.calibration["bins"])
        text += f" Expected calibration error: {ece:.2%} ({bins} bins of equal width)."
    return text


def _by_class(classes: Classes) -> str:
    numbers, before = list(range(len(classes.names))), ""
    headings = [each["heading"] for each in classes.metrics.values()]
    if len(numbers) > MOST_ROWS:
        numbers = [number for number, _ in lowest(classes)[:SHOWN]]
        before = f"The {SHOWN} of {len(classes.names):,} classes with the lowest {headings[0]}:\n\n"
    rows = [
        [_name(classes, n), f"{classes.count[n]:,}",
         *(_shown(name, values[n], classes.numbers) for name, values in classes.values.items())]
        for n in numbers
    ]  # fmt: skip
    return before + markdown_table([named(classes)[0], "count", *headings], rows)


def _matrix(classes: Classes) -> str:
    names = [_name(classes, number) for number in range(len(classes.names))]
    pairs = zip(names, classes.confusion or (), strict=True)
    rows = [[name, *(f"{count:,}" for count in counts)] for name, counts in pairs]
    return f"Confusion, truth by row, prediction by column:\n\n{markdown_table(['', *names], rows)}"


def _list(classes: Classes) -> str:
    rows = [
        [_name(classes, true), _name(classes, predicted), f"{count:,}",
         f"{count / classes.count[true]:.2%}"]
        for count, true, predicted in confusions(classes, SHOWN)
    ]  # fmt: skip
    heading = ["class", "predicted", "count", "of the class"]
    return f"The most frequent confusions:\n\n{markdown_table(heading, rows)}"


def _name(classes: Classes, number: int) -> str:
    return printable(classes.names[number])


def _shown(name: str, value: float | None, numbers: Sequence[str]) -> str:
    return "" if value is None else measured(name, value, numbers)
