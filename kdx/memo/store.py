"""The rows of one output on disk, which several processes may read and fill at the same time.

K: views, N: samples, W: bytes of a row. Two files, created sparse:

    <name>.rows     [K, N, W] bytes
    <name>.checks   [K, N] uint32: a row's checksum, 0 for a missing row

A row is written before its checksum, that of the row at its own place. What was interrupted,
damaged or moved is therefore missing, never wrong; also while a run reads it, as every row is
verified whenever it is read. Not through a memory map: a file that is truncated would kill it.
"""

import os
import struct
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from kdx.util.files import placed, replacing

CHECK = np.dtype("<u4")
MODE = os.O_RDWR | getattr(os, "O_BINARY", 0)  # of Windows


class Store:
    """Rows by (view, index), opened for reading and writing; created if missing.

    `key`, of this very output, enters the checksums. Files of another size are started again, and
    `notes` say so. `damaged` are the (view, index) looked up that did not match their checksum.
    Opening needs a lock around it; nothing else does.
    """

    def __init__(
        self, directory: Path, name: str, *, shape: tuple[int, int], width: int, key: str
    ) -> None:
        self._key = zlib.crc32(key.encode())
        places = files(directory, name, shape, width)
        self.notes = [note for path, size in places if (note := _misfit(path, size))]
        if self.notes or not all(path.exists() for path, _ in places):
            for path, size in places:  # replaced: a process that has the old one open keeps it
                with replacing(path) as partial, partial.open("wb") as file:
                    file.truncate(size)
        self._paths = [path for path, _ in places]
        self._files = [os.open(path, MODE) for path in self._paths]
        self._samples, self._width = shape[1], width
        self.damaged: set[tuple[int, int]] = set()

    def has(self, view: int, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the rows [B] are there and intact, [B]."""
        return np.array([self._row(view, index) is not None for index in indices.tolist()], bool)

    def read(
        self, view: int, indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the rows, [B, W], and which of them are there and intact, [B]; others are 0."""
        rows = np.zeros((len(indices), self._width), np.uint8)
        there = np.zeros(len(indices), bool)
        for at, index in enumerate(indices.tolist()):
            if (row := self._row(view, index)) is not None:
                rows[at], there[at] = np.frombuffer(row, np.uint8), True
        return rows, there

    def write(self, view: int, indices: NDArray[np.int64], rows: NDArray[np.uint8]) -> None:
        """Write rows [B, W] in their places; OSError if the disk is full."""
        samples, width = self._samples, self._width
        contents = {int(index): row.tobytes() for index, row in zip(indices, rows, strict=True)}
        with placed(self._paths[0]):
            for index, row in contents.items():
                _write(self._files[0], row, (view * samples + index) * width)
        with placed(self._paths[1]):
            for index, row in contents.items():
                check = np.array(self._checksum(view, index, row), CHECK)
                _write(self._files[1], check.tobytes(), (view * samples + index) * CHECK.itemsize)

    def close(self) -> None:
        """Close the files; nothing can be read after that."""
        for file in self._files:
            os.close(file)
        self._files = []

    def _row(self, view: int, index: int) -> bytes | None:
        """Return a row, or None if it is not there or does not match its checksum."""
        place = view * self._samples + index
        check = _read(self._files[1], CHECK.itemsize, place * CHECK.itemsize)
        if not any(check):
            return None
        row = _read(self._files[0], self._width, place * self._width)
        whole = len(check) == CHECK.itemsize and len(row) == self._width
        if whole and int.from_bytes(check, "little") == self._checksum(view, index, row):
            return row
        self.damaged.add((view, index))
        return None

    def _checksum(self, view: int, index: int, row: bytes) -> int:
        place = zlib.crc32(struct.pack("<QQ", view, index), self._key)
        return zlib.crc32(row, place) or 1  # 0: there is no row


def count(directory: Path, name: str, *, shape: tuple[int, int], width: int) -> NDArray[np.bool_]:
    """Return which rows have a checksum, unverified, [K, N]: none if a file is missing or unfit."""
    places = files(directory, name, shape, width)
    if any(not path.exists() or _misfit(path, size) for path, size in places):
        return np.zeros(shape, bool)
    return np.fromfile(places[1][0], CHECK).reshape(shape) != 0


def files(directory: Path, name: str, shape: tuple[int, int], width: int) -> list[tuple[Path, int]]:
    """Return the files of the rows and of the checksums, with the sizes that they should have."""
    rows, stem = shape[0] * shape[1], quote(name, safe="")
    return [
        (directory / f"{stem}.rows", rows * width),
        (directory / f"{stem}.checks", rows * CHECK.itemsize),
    ]


def _misfit(path: Path, size: int) -> str:
    found = path.stat().st_size if path.exists() else size
    return "" if found == size else f"{path} had {found:,} bytes, not {size:,}: started again"


def _read(file: int, size: int, place: int) -> bytes:
    """Read `size` bytes, or what there is of them."""
    if pread := getattr(os, "pread", None):  # not on Windows
        return pread(file, size, place)
    os.lseek(file, place, os.SEEK_SET)
    return os.read(file, size)


def _write(file: int, content: bytes, place: int) -> None:
    """Write all of it."""
    os.lseek(file, place, os.SEEK_SET)
    while content:
        content = content[os.write(file, content) :]
