"""Where the images are: in memory, or in files that are decoded when asked for.

N: samples, C: channels, H x W: pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdx.protocols import ImageSource, SceneSource
from kdx.util.words import counted

__all__ = [
    "FileImages",
    "MemoryImages",
    "check_type",
    "subset",
    "unknown_kind",
]


@dataclass(eq=False)
class MemoryImages:
    """Images [N, C, H, W] (uint8) with labels [N] (int64).

    `origin` says what they are ("cifar10 train"); `numbers` [N] are the samples' places in the
    set that they were taken from, 0..N-1 where they are the whole of it. Errors quote both.
    """

    images: Tensor
    labels: Tensor
    origin: str
    numbers: Tensor | None = None

    def __post_init__(self) -> None:
        if not _is(self.images, torch.uint8, 4):
            raise ValueError(
                f"{self.origin}: images must be a uint8 tensor [N, C, H, W], not "
                f"{_found(self.images)}; bring them to 0..255, round them, convert them to it"
            )
        check_type(self.labels, self.origin)
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"{self.origin}: {counted(len(self.images), 'image')} but "
                f"{counted(len(self.labels), 'label')}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Say which sample this is: "cifar10 train[17]"."""
        number = index if self.numbers is None else int(self.numbers[index])
        return f"{self.origin}[{number}]"


@dataclass(eq=False)
class FileImages:
    """Image files with labels [N] (int64); decoded as RGB, of any size."""

    paths: Sequence[str]
    labels: Tensor

    def __post_init__(self) -> None:
        check_type(self.labels, "image files")
        if len(self.paths) != len(self.labels):
            raise ValueError(
                f"{counted(len(self.paths), 'image file')} but {counted(len(self.labels), 'label')}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Return the path of the file."""
        return self.paths[index]


def subset(source: ImageSource, indices: Tensor) -> ImageSource:
    """Return the samples at `indices` [n], in that order, under the names they had.

    Raises ValueError for a source of another kind.
    """
    if isinstance(source, SceneSource):
        return source.subset(indices)
    labels = source.labels[indices]
    if isinstance(source, FileImages):
        return FileImages([source.paths[int(i)] for i in indices.tolist()], labels)
    if isinstance(source, MemoryImages):
        numbers = indices if source.numbers is None else source.numbers[indices]
        return MemoryImages(source.images[indices], labels, source.origin, numbers)
    raise ValueError(unknown_kind(source))


def unknown_kind(source: object) -> str:
    """Say that a source is none of the kinds that views can be made of."""
    return (
        f"{type(source).__name__} is not a source of images: use MemoryImages or FileImages, or "
        "give it what kdx.protocols.SceneSource has"
    )


def check_type(labels: Tensor, origin: str) -> None:
    """Raise ValueError for labels that are no int64 tensor [N]."""
    if not _is(labels, torch.int64, 1):
        raise ValueError(f"{origin}: labels must be an int64 tensor [N], not {_found(labels)}")


def _is(value: Any, dtype: torch.dtype, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.dtype == dtype and value.ndim == dimensions


def _found(value: Any) -> str:
    """Say what stands where a tensor of another kind should, and where it is NaN or infinite."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    bad = value.isfinite().logical_not().nonzero()
    where = f" with {value[tuple(bad[0])]} in sample {int(bad[0, 0])}" if bad.numel() else ""
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{where}"
