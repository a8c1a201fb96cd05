"""Images that a CSV file lists, with a label each."""

import csv as reader
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from kdx.data.decode import decode, read_header
from kdx.data.sets.answers import many_labels, numbers, one_label
from kdx.data.sets.image_folder import MEAN, STD
from kdx.data.sets.labelling import repeated
from kdx.data.sets.reading import check_numbers, opens_headers, read_each, shared_images, sift
from kdx.data.sources import FileImages
from kdx.data.vectors import VectorImages
from kdx.protocols import ImageData, ImageSource, InputSpec
from kdx.util.words import counted, listed

__all__ = ["csv"]

NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that Python's surrogateescape could not decode


class Row(NamedTuple):
    """A row's place ("labels.csv:3"), image, label or targets, and its split if it has a column."""

    place: str
    image: str
    cells: tuple[str, ...]
    split: str = ""


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
    """Open the images that CSV files list in UTF-8, seen at size x size.

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
    if separator is not None and (targets or not separator):
        raise ValueError(f"csv: separator: {separator!r}: for labels, one character or more")
    if twice := repeated(targets):
        raise ValueError(f"csv: targets: duplicate columns: {listed(twice)}")
    read = partial(
        _read,
        columns=(path, *(targets or [label])),
        split=None if file is None else split,
        root=root,
        delimiter=delimiter,
        empty=label if separator else None,
    )
    if len(delimiter) != 1:
        raise ValueError(f"csv: delimiter: {delimiter!r} must be one character")
    if file is None:
        parts = {name: read(name) for name in (train, test)}
        notes = []
    else:
        parts, notes = _divided(read(file), (train, test), file, split)
    if train == test:
        raise ValueError(f"csv: train and test are both {train!r}")
    kept = [_without_repeats(part, notes) for part in parts.values()]
    rows = [row for part in kept for row in part]
    if opens_headers(len(rows), verify=verify, skip_bad=skip_bad):
        left, more = sift(
            "csv",
            rows,
            lambda row: decode(row.image),
            lambda row: read_header(row.image),
            skip_bad=skip_bad,
            place=lambda row: row.place,
            name=lambda row: row.image,
        )
        notes += more
        bad = {rows[i].place for i in left}
        kept = [[row for row in part if row.place not in bad] for part in kept]
    else:
        read_each("csv", _check_file, rows)
    notes += shared_images("csv", *([row.image for row in part] for part in kept))
    said = {
        name: [(row.place, _cut(row.cells, separator)) for row in part]
        for name, part in zip(("train", "test"), kept, strict=True)
    }
    if targets:
        found = numbers("csv", said, targets, standardize=standardize)
    else:
        found = (many_labels if separator else one_label)("csv", said, classes)
    train_images, test_images = (
        _source([row.image for row in part], labels, vectors)
        for part, labels, vectors in zip(kept, found.labels, found.targets, strict=True)
    )
    spec, notes = InputSpec(3, size, MEAN, STD), [*notes, *found.notes]
    return ImageData(train_images, test_images, found.names, spec, notes=notes, task=found.task)


def _source(paths: Sequence[str], labels: Tensor, targets: Tensor | None) -> ImageSource:
    images = FileImages(paths, labels)
    return images if targets is None else VectorImages(images, targets)


def _cut(cells: Sequence[str], separator: str | None) -> list[str]:
    """Return the labels in a cell, if they are several; or the cells."""
    if separator is None:
        return list(cells)
    return [label.strip() for label in cells[0].split(separator) if label.strip()]


def _read(
    file: str,
    *,
    columns: Sequence[str],
    split: str | None,
    root: str | None,
    delimiter: str,
    empty: str | None,
) -> list[Row]:
    """Return the rows of a file; ValueError lists those that are incomplete.

    `columns` are those of the image and of the cells; that called `empty` may be so.
    """
    folder, rows, problems = Path(file).parent if root is None else Path(root), [], []
    every = [*columns, *([] if split is None else [split])]
    try:
        for place, cells in _cells(file, every, delimiter, empty):
            if isinstance(cells, str):
                problems.append(f"{place}: {cells}")
            else:
                image, found = str(folder / cells[0]), tuple(cells[1 : len(columns)])
                rows.append(Row(place, image, found, *cells[len(columns) :]))
    except OSError as error:
        raise ValueError(f"csv: {file}: {error.strerror}: set train, test or file") from error
    if problems:
        raise ValueError(f"csv: {counted(len(problems), 'invalid row')}: {listed(problems, '; ')}")
    if not rows:
        raise ValueError(f"csv: {file}: no rows below the header")
    return rows


def _cells(
    file: str, columns: Sequence[str], delimiter: str, may_be_empty: str | None
) -> Iterator[tuple[str, list[str] | str]]:
    """Yield the place of each row, and the cells of the columns or what is wrong with them."""
    with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = reader.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
        header, places, last = None, [], 0
        while True:
            try:
                row = next(lines, None)
            except reader.Error as error:
                raise ValueError(f"csv: {file}:{lines.line_num}: invalid CSV: {error}") from error
            place, last = f"{file}:{last + 1}", lines.line_num
            if row is None:
                return
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if header is None:
                header = cells
                places = _places(place, header, columns)
            elif len(cells) != len(header):
                found = f"{counted(len(cells), 'cell')}, but the header has {len(header)}"
                yield place, f"{found}; put cells that contain {delimiter!r} in quotes"
            elif empty := [
                name
                for name, i in zip(columns, places, strict=True)
                if not cells[i] and name != may_be_empty
            ]:
                yield place, f"no {' and no '.join(empty)}"
            elif NOT_UTF8.search(delimiter.join(cells)):
                yield place, f"not UTF-8: {cells!a}; convert the file"
            else:
                yield place, [cells[i] for i in places]


def _places(place: str, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    if twice := set(repeated(header)) & set(columns):
        raise ValueError(f"csv: {place}: duplicate columns: {listed(sorted(twice))}")
    if missing := [name for name in columns if name not in header]:
        found = f"no column {listed(missing)} in the header: {listed([repr(h) for h in header])}"
        raise ValueError(f"csv: {place}: {found}; set path, label, targets, split or delimiter")
    return [header.index(name) for name in columns]


def _divided(
    rows: Sequence[Row], names: tuple[str, str], file: str, column: str
) -> tuple[Mapping[str, list[Row]], list[str]]:
    """Return the rows of two splits by their names, and a note on the others."""
    parts = {name: [row for row in rows if row.split == name] for name in names}
    found = sorted({row.split for row in rows})
    if absent := [name for name, part in parts.items() if not part]:
        values = f"no rows of {listed(absent)} in column {column!r}, which has {listed(found)}"
        raise ValueError(f"csv: {file}: {values}; set train and test")
    if others := [name for name in found if name not in names]:
        count = counted(sum(row.split in others for row in rows), "row")
        return parts, [f"csv: {file}: {count} of other splits left out: {listed(others)}"]
    return parts, []


def _without_repeats(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    first: dict[str, Row] = {}
    repeats, problems = [], []
    for row in rows:
        earlier = first.setdefault(row.image, row)
        if earlier.cells != row.cells:
            one, other = (", ".join(each.cells) for each in (row, earlier))
            found = f"{other!r} at {earlier.place}"
            problems.append(f"{row.place}: {row.image} is labelled {one!r}, but {found}")
        elif earlier is not row:
            repeats.append(row.place)
    if problems:
        count = counted(len(problems), "image")
        raise ValueError(f"csv: {count} with two labels: {listed(problems, '; ')}")
    if repeats:
        count = counted(len(repeats), "row")
        notes.append(f"csv: {count} left out that repeat earlier ones: {listed(repeats)}")
    return list(first.values())


def _check_file(row: Row) -> None:
    if not Path(row.image).is_file():
        raise ValueError(f"{row.place}: no file {row.image!r}")
