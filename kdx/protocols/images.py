"""Images by index. N: samples, H, W: height and width in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

__all__ = ["ImageSource", "InputSpec", "SceneSource"]


@dataclass(frozen=True)
class InputSpec:
    """The images a network takes, normalised (x - mean) / std.

    `size` is a number of pixels a side, or (height, width). `mean` and `std` are per channel, for
    pixel values in [0, 1].
    """

    channels: int
    size: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def hw(self) -> tuple[int, int]:
        """(H, W)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, H, W)."""
        return (self.channels, *self.hw)

    def __str__(self) -> str:
        return " x ".join(f"{n:,}" for n in self.shape)


@runtime_checkable
class ImageSource(Protocol):
    """Images that are fetched by index, with their labels [N] (int64): what splits go by."""

    labels: Tensor

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def name(self, index: int) -> str:
        """Say what and where the sample is, for error messages."""
        ...


@runtime_checkable
class SceneSource(ImageSource, Protocol):
    """Images that make their own views, whatever the task: with boxes, with masks.

    `files` are the files that it reads; they stand for its content where runs are compared.
    """

    files: Sequence[str]

    def subset(self, indices: Tensor) -> "SceneSource":
        """Return the samples at `indices` [n], in that order, under the names they had."""
        ...

    def check(self, input: InputSpec, augment: Any) -> None:
        """Raise ValueError for an input or a `kdx.data.Augment` (or None) that it cannot serve."""
        ...

    def view_size(self, input: InputSpec, augment: Any) -> tuple[int, int]:
        """Return (H, W) of its views: the input's, unless the augmentation has a window."""
        ...

    def view(self, index: int, input: InputSpec, augment: Any) -> tuple[Tensor, Tensor]:
        """Return an image, uint8 or normalised float32 [C, H, W], and its target; without batch.

        Random changes draw from torch's CPU generator, which is seeded for this very view.
        `augment` None is the view for evaluation. ValueError names a file that cannot be read.
        """
        ...
