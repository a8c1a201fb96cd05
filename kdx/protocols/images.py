"""Images by index. N: samples, B: batch, C: channels, H, W: height and width in pixels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

Key = tuple[int, int]  # epoch and index of a sample: with the seed, all that its view depends on


@dataclass(frozen=True)
class InputSpec:
    """The images a network takes, normalised (x - mean) / std, of pixel values in [0, 1].

    `size` is a number of pixels a side, or (height, width). `mean` and `std` are per channel.
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
    """Images by index, with their targets, as views that fit a network's input.

    `labels` [N] (int64) are what splits are stratified by. `augment` is a `kdx.data.Augment`, or
    None in evaluation. `Batched`, `Labelled` and `Comparable` add to this protocol.
    """

    labels: Tensor

    @property
    def files(self) -> Sequence[str]:
        """The files it reads, whose names, sizes and times stand for their content."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def name(self, index: int) -> str:
        """Return what and where the sample is, for error messages."""
        ...

    def subset(self, indices: Tensor) -> "ImageSource":
        """Return the samples at `indices` [n], in that order, with unchanged names."""
        ...

    def check(self, input: InputSpec, augment: Any) -> None:
        """Raise ValueError if it cannot make views for this input or augmentation."""
        ...

    def view_size(self, input: InputSpec, augment: Any) -> tuple[int, int]:
        """Return (H, W) of its views: the input's, unless the augmentation has a window."""
        ...

    def view(self, index: int, input: InputSpec, augment: Any) -> tuple[Tensor, Tensor]:
        """Return an image [C, H, W], uint8, or float32 if it is normalised already, and its target.

        Targets of different lengths are padded with -1. Random changes draw from the global
        generators of torch, NumPy and Python, which are seeded for this view. Raises ValueError
        naming a file that cannot be read.
        """
        ...


@runtime_checkable
class Batched(Protocol):
    """A source that makes the views of a whole batch faster than one by one; optional."""

    def views(
        self, keys: Sequence[Key], input: InputSpec, augment: Any, *, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return images [B, C, H, W] and targets [B, ...], pure functions of seed and keys.

        No global generator is seeded for it: views that draw from one are refused.
        """
        ...


@runtime_checkable
class Whole(Protocol):
    """A source with images that do not fit the input yet, for a list of augmentations; optional."""

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image [C, h, w], uint8, of its own size, and its target."""
        ...


@runtime_checkable
class Located(Protocol):
    """A source whose targets lie on its images, as boxes do, for a list of augmentations; optional.

    The list gets image and targets together, as torchvision's transforms (v2) do.
    """

    def located(self, index: int) -> Sequence[Tensor]:
        """Return an image [C, h, w], uint8, of its own size, and `tv_tensors` that lie on it."""
        ...

    def fitted(
        self, index: int, parts: Sequence[Tensor], input: InputSpec, augment: Any
    ) -> tuple[Tensor, Tensor]:
        """Return an image [C, H, W] of `view_size`, and its target, of what the list made."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A source that says how its views for evaluation are made, for the exported file; optional."""

    def preparation(self, input: InputSpec) -> Mapping[str, Any]:
        """Return, in what JSON can hold, "mode" of the image, "resize", "crop", "pad", and others.

        Those that are not done are left out. Normalisation by the input follows.
        """
        ...


@runtime_checkable
class Labelled(Protocol):
    """A source whose targets are its labels; optional, needed for label noise."""

    def relabelled(self, labels: Tensor) -> ImageSource:
        """Return the same images with other labels [N] (int64)."""
        ...


@runtime_checkable
class Comparable(Protocol):
    """A source whose images or targets are not all in its files; optional."""

    def tensors(self, *, targets: bool) -> Iterable[tuple[str, Tensor]]:
        """Yield by name what its images or its targets depend on, for resuming and memos."""
        ...
