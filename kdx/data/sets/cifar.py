"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 images of 3 x 32 x 32 (Krizhevsky 2009)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kdx.data.sets.fetch import Remote, fetch_archive, reading
from kdx.data.sets.unpickle import read_pickle
from kdx.data.sources import MemoryImages
from kdx.protocols import ImageData, InputSpec
from kdx.tasks import check_labels

__all__ = ["cifar10", "cifar100"]

SIDE = 32
SITE = "https://www.cs.toronto.edu/~kriz"


@dataclass(frozen=True)
class _Layout:
    """How a data set lies on disk, and the archive that it comes in."""

    origin: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    classes: int
    archive: Remote
    input: InputSpec


_CIFAR10 = _Layout(
    *("cifar10", "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6))),
    *("test_batch", "batches.meta", "label", 10),
    Remote(
        f"{SITE}/cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    InputSpec(3, SIDE, (125.3 / 255, 123 / 255, 113.9 / 255), (63 / 255, 62.1 / 255, 66.7 / 255)),
)
_CIFAR100 = _Layout(
    *("cifar100", "cifar-100-python", ("train",), "test", "meta", "fine_label", 100),
    Remote(
        f"{SITE}/cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
    InputSpec(3, SIDE, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
)


def cifar10(*, root: str = "data", download: bool = True) -> ImageData:
    """Open CIFAR-10 from `root`/cifar-10-batches-py, as torchvision keeps it.

    What is not there is unpacked from the archive in `root`, or downloaded, and verified. Raises
    ValueError for files that are absent, damaged, or hold anything but images and labels.
    """
    return _open(_CIFAR10, Path(root), download)


def cifar100(*, root: str = "data", download: bool = True) -> ImageData:
    """Open CIFAR-100 (the 100 fine labels) from `root`/cifar-100-python; else as `cifar10`."""
    return _open(_CIFAR100, Path(root), download)


def _open(layout: _Layout, root: Path, download: bool) -> ImageData:
    origin, folder = layout.origin, root / layout.folder
    if not folder.is_dir():
        fetch_archive(origin, root, archive=layout.archive, folder=layout.folder, download=download)
    with reading(folder):
        return ImageData(
            train=_read(layout, [folder / name for name in layout.train], f"{origin} train"),
            test=_read(layout, [folder / layout.test], f"{origin} test"),
            classes=_read_names(folder / layout.meta, f"{layout.labels}_names", layout.classes),
            input=layout.input,
        )


def _read_names(path: Path, key: str, classes: int) -> list[str]:
    names = read_pickle(path).get(key)
    if not isinstance(names, list) or len(names) != classes:
        found = len(names) if isinstance(names, list) else "no list of"
        raise ValueError(f"{path}: {found} {key} should be {classes}")
    return [str(name) for name in names]


def _read(layout: _Layout, files: Sequence[Path], origin: str) -> MemoryImages:
    batches = [_read_batch(file, f"{layout.labels}s") for file in files]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    source = MemoryImages(torch.from_numpy(images), torch.from_numpy(labels), origin)
    check_labels(source, classes=layout.classes)
    return source


def _read_batch(path: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [n, 3, 32, 32] and labels int64 [n]."""
    content = read_pickle(path)
    images = np.asarray(content.get("data"))
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3 * SIDE * SIDE:
        raise ValueError(f"{path}: data is {images.dtype} {images.shape}, not uint8 (n, 3072)")
    labels = np.asarray(content.get(key))
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        found = f"{labels.dtype} {labels.shape}"
        raise ValueError(f"{path}: {key} is {found}, not int ({len(images)},)")
    return images.reshape(-1, 3, SIDE, SIDE), labels.astype(np.int64)
