"""Fashion-MNIST in small: 60 training and 20 test items, no two alike."""

from pathlib import Path

import pytest
import torch

from tests.unit.kdx.data.sets.test_fashion_mnist import idx, labels


def items(n: int, *, first: int) -> torch.Tensor:
    """Return uint8 [n, 28, 28]: bright blocks of 20 to 28 rows and 9 to 27 columns, on black."""
    images = torch.zeros(n, 28, 28, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(first)
    for number in range(n):
        height, width = 28 - number % 9, 9 + 2 * (number % 10)
        block = torch.randint(16, 256, (height, width), generator=generator, dtype=torch.uint8)
        images[number, 28 - height :, :width] = block
    return images


def write_items(folder: Path) -> None:
    folder.mkdir()
    for part, n in (("train", 60), ("t10k", 20)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(items(n, first=n)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels(n)))


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items") / "fashion_mnist"
    write_items(folder)
    return str(folder)
