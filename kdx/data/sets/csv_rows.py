"""The rows of CSV files, with the place of each."""

import codecs
import csv as reader
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kdx.util.words import counted, listed, of_windows, repeated

NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that Python's surrogateescape could not decode


class Row(NamedTuple):
    """A row's place ("labels.csv:3"), image, label or targets, and its split if it has a column."""

    place: str
    image: str
    cells: tuple[str, ...]
    split: str = ""


def read_rows(
    file: str,
    *,
    columns: Sequence[str],
    split: str | None,
    root: str | None,
    delimiter: str,
    empty: str | None,
) -> list[Row | str]:
    """Return the rows of a file, and in place of each invalid one where and what is wrong with it.

    `columns` are those of the image and of the cells; that called `empty` may be so.
    """
    folder, rows = Path(file).parent if root is None else Path(root), []
    every = [*columns, *([] if split is None else [split])]
    try:
        for place, cells in _cells(file, every, delimiter, empty):
            if isinstance(cells, str):
                rows.append(f"{place}: {cells}")
            elif advice := of_windows(cells[0]):
                rows.append(f"{place}: {advice}")
            else:
                image, found = str(folder / cells[0]), tuple(cells[1 : len(columns)])
                rows.append(Row(place, image, found, *cells[len(columns) :]))
    except OSError as error:
        rows.append(f"{file}: {error.strerror}: set train, test or file")
    except UnicodeDecodeError as error:
        rows.append(f"{file}: not UTF-16: {error.reason}: save it as UTF-8")
    return rows or [f"{file}: no rows below the header"]


def every_row(files: Mapping[str, Sequence[Row | str]]) -> dict[str, list[Row]]:
    """Return the rows of files; ValueError lists the invalid ones of all."""
    if problems := [each for rows in files.values() for each in rows if isinstance(each, str)]:
        raise ValueError(f"csv: {counted(len(problems), 'problem')}: {listed(problems, '; ')}")
    return {name: [each for each in rows if isinstance(each, Row)] for name, rows in files.items()}


def _cells(
    file: str, columns: Sequence[str], delimiter: str, may_be_empty: str | None
) -> Iterator[tuple[str, list[str] | str]]:
    """Yield the place of each row, and the cells of the columns or what is wrong with them."""
    with open(file, encoding=_encoding(file), errors="surrogateescape", newline="") as text:
        unspaced = (
            re.sub(rf'(?<!")" +(?={re.escape(delimiter)}|\s*$)', '"', line) for line in text
        )
        lines = reader.reader(unspaced, delimiter=delimiter, skipinitialspace=True, strict=True)
        header, places, last = None, [], 0
        while True:
            try:
                row, problem = next(lines, None), ""
            except reader.Error as error:
                row, problem = [], f"invalid CSV: {error}"
            place, last = f"{file}:{last + 1}", lines.line_num
            if row is None:
                return
            cells = [cell.strip() for cell in row]
            if problem:
                yield place, problem
            elif not any(cells):
                continue
            elif header is None:
                header = cells
                if problem := _unfit(header, columns):
                    yield place, problem
                    return
                places = [header.index(name) for name in columns]
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
            elif any("\0" in cell for cell in cells):
                yield place, f"contains a NUL byte: {cells!a}"
            else:
                yield place, [cells[i] for i in places]


def _encoding(file: str) -> str:
    """Return UTF-8, or UTF-16 if a byte order mark says so, as of Excel's "Unicode text"."""
    with open(file, "rb") as content:
        is_wide = content.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if is_wide else "utf-8-sig"


def _unfit(header: Sequence[str], columns: Sequence[str]) -> str:
    """Return what is wrong with the header; empty if it has each of the columns once."""
    if "\0" in "".join(header):
        return "not UTF-8: zero bytes, as of UTF-16 without a byte order mark: save it as UTF-8"
    if twice := set(repeated(header)) & set(columns):
        return f"duplicate columns: {listed(sorted(twice))}"
    if missing := [name for name in columns if name not in header]:
        found = f"no column {listed(missing)} in the header: {listed([repr(h) for h in header])}"
        return f"{found}; set path, label, targets, split or delimiter"
    return ""
