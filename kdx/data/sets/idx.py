"""The idx format of MNIST and its kin (http://yann.lecun.com/exdb/mnist), gzipped or not."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from kdx.util.words import counted

_UNSIGNED_BYTES = 0x08


def find_idx(folder: Path, name: str) -> Path:
    """Return `folder`/`name`, or its gzipped form where only that could exist."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def read_idx(path: Path, *, shape: tuple[int, ...]) -> Tensor:
    """Return the array in the file, uint8 [N, *shape].

    Raises ValueError naming the file and what is wrong: compression, magic number, dimensions,
    length.
    """
    raw = _read_bytes(path)
    start = 4 + 4 * (1 + len(shape))
    magic, expected = raw[:4], bytes([0, 0, _UNSIGNED_BYTES, 1 + len(shape)])
    if magic != expected:
        raise ValueError(f"{path}: magic number 0x{magic.hex()} should be 0x{expected.hex()}")
    if len(raw) < start:
        raise ValueError(f"{path}: truncated in the header, after {counted(len(raw), 'byte')}")
    count, *found = (int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    if tuple(found) != shape:
        raise ValueError(f"{path}: items of {tuple(found)} should be of {shape}")
    length = start + count * math.prod(shape)
    if len(raw) != length:
        items = counted(count, "item")
        raise ValueError(f"{path}: {counted(len(raw), 'byte')}, not {length:,} for {items}")
    return torch.frombuffer(raw, dtype=torch.uint8)[start:].view(count, *shape)


def _read_bytes(path: Path) -> bytearray:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            return bytearray(file.read())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
