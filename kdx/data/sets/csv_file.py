"""Images that a CSV file lists, with a label each."""

import csv as reader
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kdx.data.decode import decode, read_header
from kdx.data.sets.image_folder import MEAN, STD
from kdx.data.sets.labelling import number_classes, repeated
from kdx.data.sets.reading import check_numbers, opens_headers, read_each, shared_images, sift
from kdx.data.sources import FileImages
from kdx.protocols import ImageData, InputSpec
from kdx.util.words import counted, listed

__all__ = ["csv"]

NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that Python's surrogateescape could not decode


class Row(NamedTuple):
    """A row's place ("labels.csv:3"), its image, its label, and its split if there is a column."""

    place: str
    image: str
    label: str
    split: str


def csv(
    *,
    train: str,
    test: str,
    file: str | None = None,
    split: str = "split",
    path: str = "path",
    label: str = "label",
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
    and labels: names or integers, see `number_classes`. Space around cells is ignored. Rows that
    repeat an earlier one are left out, as are those of other splits; notes count them. `verify` and
    `skip_bad` are as of `image_folder`. ValueError lists, by file and line, rows that are
    incomplete, images that are absent, cannot be read or have two labels, and unknown labels.
    """
    check_numbers("csv", size=size, skip_bad=skip_bad)
    columns = [path, label] if file is None else [path, label, split]
    if len(delimiter) != 1:
        raise ValueError(f"csv: delimiter: {delimiter!r} must be one character")
    if file is None:
        parts = {name: _read(name, columns, root, delimiter) for name in (train, test)}
        notes = []
    else:
        parts, notes = _divided(_read(file, columns, root, delimiter), (train, test), file, split)
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
    named = dict(zip(("train", "test"), kept, strict=True))
    placed = {name: [(row.place, row.label) for row in part] for name, part in named.items()}
    names, labels, more = number_classes("csv", placed, classes)
    train_images, test_images = (
        FileImages([row.image for row in part], numbers)
        for part, numbers in zip(kept, labels, strict=True)
    )
    spec = InputSpec(3, size, MEAN, STD)
    return ImageData(train_images, test_images, names, spec, notes=[*notes, *more])


def _read(file: str, columns: Sequence[str], root: str | None, delimiter: str) -> list[Row]:
    """Return the rows of a file; ValueError lists those that are incomplete."""
    folder, rows, problems = Path(file).parent if root is None else Path(root), [], []
    try:
        for place, cells in _cells(file, columns, delimiter):
            if isinstance(cells, str):
                problems.append(f"{place}: {cells}")
            else:
                image, label, *split = cells
                rows.append(Row(place, str(folder / image), label, *(split or [""])))
    except OSError as error:
        raise ValueError(f"csv: {file}: {error.strerror}: set train, test or file") from error
    if problems:
        raise ValueError(f"csv: {counted(len(problems), 'invalid row')}: {listed(problems, '; ')}")
    if not rows:
        raise ValueError(f"csv: {file}: no rows below the header")
    return rows


def _cells(
    file: str, columns: Sequence[str], delimiter: str
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
            elif empty := [name for name, i in zip(columns, places, strict=True) if not cells[i]]:
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
        raise ValueError(f"csv: {place}: {found}; set path, label, split or delimiter")
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
        if earlier.label != row.label:
            found = f"{earlier.label!r} at {earlier.place}"
            problems.append(f"{row.place}: {row.image} is labelled {row.label!r}, but {found}")
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
