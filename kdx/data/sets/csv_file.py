"""Images that a CSV file lists, with a label each."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kdx.data.files import FileImages
from kdx.data.sets.csv_rows import Row, every_row, read_rows
from kdx.data.sets.reading import MEAN, STD, check_numbers, read_each, shared_images
from kdx.data.sets.stored import opens_headers, sift
from kdx.data.sets.targets import many_labels, numbers, one_label
from kdx.data.vectors import VectorImages
from kdx.protocols import ImageData, ImageSource, InputSpec
from kdx.util.words import counted, listed, repeated

__all__ = ["csv"]


def csv(
    *,
    train: str,
    test: str,
    file: str | None = None,
    split: str = "split",
    path: str = "path",
    label: str = "label",
    separator: str | None = None,
    targets: Sequence[str] = (),
    standardize: bool = True,
    root: str | None = None,
    classes: Sequence[str] | None = None,
    delimiter: str = ",",
    size: int = 224,
    verify: bool | None = None,
    skip_bad: int = 0,
) -> ImageData:
    """Open the images that CSV files list, seen at size x size.

    Files are UTF-8, or UTF-16 with a byte order mark; `delimiter` is a character, or "tab".
    `train` and `test` are CSV files with a header or, with `file`, the values of that file's column
    `split`. Columns `path` and `label` have the images, relative to `root` or else to the CSV file,
    and labels: names or integers, see `number_classes`. With a `separator` a cell has any number of
    labels: the task is multi-label. Columns `targets` have numbers in place of labels: the task is
    regression, of (number - mean) / std of the training images if `standardize`, which a note says.

    Space around cells is ignored. Rows that repeat an earlier one are left out, as are those of
    other splits; notes count them. `verify` and
    `skip_bad` are as of `image_folder`. ValueError lists, by file and line, rows that are
    incomplete, images that are absent, cannot be read or have two labels, and unknown labels.
    """
    check_numbers("csv", size=size, skip_bad=skip_bad)
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if separator is not None and (targets or not separator):
        raise ValueError(f"csv: separator: {separator!r}: for labels, one character or more")
    if twice := repeated(targets):
        raise ValueError(f"csv: targets: duplicate columns: {listed(twice)}")
    if len(delimiter) != 1:
        raise ValueError(f"csv: delimiter: {delimiter!r} must be one character, or tab")
    if train == test:
        raise ValueError(f"csv: train and test are both {train!r}")
    read = partial(
        read_rows,
        columns=(path, *(targets or [label])),
        split=None if file is None else split,
        root=root,
        delimiter=delimiter,
        empty=label if separator else None,
    )
    found = every_row({name: read(name) for name in ((train, test) if file is None else (file,))})
    parts, notes = (found, []) if file is None else _divided(found, (train, test), file, split)
    kept = _without_repeats(parts.values(), notes)
    kept = _readable(kept, notes, verify=verify, skip_bad=skip_bad)
    notes += shared_images("csv", *([row.image for row in part] for part in kept))
    samples = {
        name: [(row.place, _cut(row.cells, separator)) for row in part]
        for name, part in zip(("train", "test"), kept, strict=True)
    }
    if targets:
        encoded = numbers("csv", samples, targets, standardize=standardize)
    else:
        encoded = (many_labels if separator else one_label)("csv", samples, classes)
    train_images, test_images = (
        _source([row.image for row in part], labels, vectors)
        for part, labels, vectors in zip(kept, encoded.labels, encoded.targets, strict=True)
    )
    spec, notes = InputSpec(3, size, MEAN, STD), [*notes, *encoded.notes]
    return ImageData(train_images, test_images, encoded.names, spec, notes=notes, task=encoded.task)


def _source(paths: Sequence[str], labels: Tensor, targets: Tensor | None) -> ImageSource:
    images = FileImages(paths, labels)
    return images if targets is None else VectorImages(images, targets)


def _cut(cells: Sequence[str], separator: str | None) -> list[str]:
    """Return the labels in a cell, if they are several; or the cells."""
    if separator is None:
        return list(cells)
    return [label.strip() for label in cells[0].split(separator) if label.strip()]


def _divided(
    files: Mapping[str, Sequence[Row]], names: tuple[str, str], file: str, column: str
) -> tuple[Mapping[str, Sequence[Row]], list[str]]:
    """Return the rows of two splits by their names, and a note on the others."""
    rows = files[file]
    parts = {name: [row for row in rows if row.split == name] for name in names}
    found = sorted({row.split for row in rows})
    if absent := [name for name, part in parts.items() if not part]:
        values = f"no rows of {listed(absent)} in column {column!r}, which has {listed(found)}"
        raise ValueError(f"csv: {file}: {values}; set train and test")
    if others := [name for name in found if name not in names]:
        count = counted(sum(row.split in others for row in rows), "row")
        return parts, [f"csv: {file}: {count} of other splits left out: {listed(others)}"]
    return parts, []


def _without_repeats(parts: Iterable[Sequence[Row]], notes: list[str]) -> list[list[Row]]:
    """Return the first row of each image in a part; add notes on others.

    ValueError lists images with two labels.
    """
    kept, problems = [], []
    for rows in parts:
        first: dict[str, Row] = {}
        repeats = []
        for row in rows:
            earlier = first.setdefault(row.image, row)
            if earlier.cells != row.cells:
                one, other = (", ".join(each.cells) for each in (row, earlier))
                found = f"{other!r} at {earlier.place}"
                problems.append(f"{row.place}: {row.image} is labelled {one!r}, but {found}")
            elif earlier is not row:
                repeats.append(row.place)
        if repeats:
            count = counted(len(repeats), "row")
            notes.append(f"csv: {count} left out that repeat earlier ones: {listed(repeats)}")
        kept.append(list(first.values()))
    if problems:
        count = counted(len(problems), "image")
        raise ValueError(f"csv: {count} with two labels: {listed(problems, '; ')}")
    return kept


def _readable(
    parts: Sequence[Sequence[Row]], notes: list[str], *, verify: bool | None, skip_bad: int
) -> list[list[Row]]:
    """Return the rows without at most `skip_bad` unreadable images; add notes: see `sift`."""
    rows = [row for part in parts for row in part]
    if not opens_headers(len(rows), verify=verify, skip_bad=skip_bad):
        read_each("csv", _check_file, rows)
        return [list(part) for part in parts]
    images = FileImages([row.image for row in rows], torch.zeros(len(rows), dtype=torch.int64))
    bad, more = sift("csv", [images], skip_bad=skip_bad, places=[row.place for row in rows])
    notes += more
    places = {rows[i].place for i in bad}
    return [[row for row in part if row.place not in places] for part in parts]


def _check_file(row: Row) -> None:
    if not Path(row.image).is_file():
        raise ValueError(f"{row.place}: no file {row.image!r}")
