"""Files of data sets, damaged at random: each is read, or refused with its path."""

import io
import pickle
import random
import warnings

import numpy as np
import pytest

from kdx.data.decode import decode
from kdx.data.sets.fashion_mnist import read_idx
from kdx.data.sets.unpickle import read_pickle
from tests.faults.test_images import noise

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Change some bytes, those at the start more often than others; cut every third file."""
    content = bytearray(raw)
    for _ in range(rng.choice([1, 2, 8])):
        within = min(len(content), rng.choice([32, 256, len(content)]))
        content[rng.randrange(within)] = rng.randrange(256)
    return bytes(content[: rng.randrange(len(content))] if rng.random() < 1 / 3 else content)


def encoded(kind: str) -> bytes:
    content = io.BytesIO()
    noise(0, 12).save(content, kind)
    return content.getvalue()


def batch() -> bytes:
    content = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
    return pickle.dumps(content, 2)


def idx() -> bytes:
    return bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(5 * 784)


READERS = {
    **{kind: (encoded(kind), lambda path: decode(str(path))) for kind in FORMATS},
    "idx": (idx(), lambda path: read_idx(path, shape=(28, 28))),
    "CIFAR": (batch(), read_pickle),
}


def read_damaged(name: str, path, n: int) -> int:
    """Read `n` damaged files; return how many were refused, each with its path."""
    raw, read = READERS[name]
    rng, refused = random.Random(0), 0
    for _ in range(n):
        path.write_bytes(damaged(raw, rng))
        said = told(read, path)
        assert said is None or said.startswith(f"{path}: ")
        refused += said is not None
    return refused


def told(read, path) -> str | None:
    """Return why a file is refused, None where it is read."""
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_with_their_path(name, tmp_path):
    with warnings.catch_warnings(action="ignore"):  # Pillow warns of some of what it can read
        assert read_damaged(name, tmp_path / "damaged", 50) > 10


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused_with_their_path(name, tmp_path):
    with warnings.catch_warnings(action="ignore"):
        refused = read_damaged(name, tmp_path / "damaged", 3_000)
    print(f"{name}: {refused:,} of 3,000 damaged files refused")
    assert refused > 600
