"""Images with one label each, in memory, and what sources of images share.

N: samples, B: batch, C: channels, H x W: pixels.
"""

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from kdx.data.augment import Augment, augmented, check_changes
from kdx.protocols import Batched, InputSpec, Key

T = TypeVar("T")
BILINEAR = {"interpolation": "bilinear", "antialias": True}


@dataclass(eq=False)
class MemoryImages:
    """Images [N, C, H, W] (uint8) with labels [N] (int64); errors quote `origin` and `numbers`.

    `numbers` [N] are the samples' indices in the original data set, 0..N-1 by default.
    """

    images: Tensor
    labels: Tensor
    origin: str
    numbers: Tensor | None = None

    def __post_init__(self) -> None:
        if not _is(self.images, torch.uint8, 4):
            needed = f"images must be a uint8 tensor [N, C, H, W], not {found_in(self.images)}"
            raise ValueError(
                f"{self.origin}: {needed}; scale them to 0..255, round and convert them"
            )
        check_lists(self.origin, self.labels, images=self.images)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def files(self) -> Sequence[str]:
        """None: see `tensors`."""
        return ()

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image [C, H, W], the set's own memory, and its label []."""
        return self.images[index], self.labels[index]

    def tensors(self, *, targets: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield the images."""
        yield from () if targets else [("images", self.images)]

    def name(self, index: int) -> str:
        """Return which sample this is: "cifar10 train[17]"."""
        number = index if self.numbers is None else int(self.numbers[index])
        return f"{self.origin}[{number}]"

    def subset(self, indices: Tensor) -> "MemoryImages":
        """Return the samples at `indices` [n], in that order, with unchanged names."""
        numbers = indices if self.numbers is None else self.numbers[indices]
        return MemoryImages(self.images[indices], self.labels[indices], self.origin, numbers)

    def relabelled(self, labels: Tensor) -> "MemoryImages":
        """Return the same images with other labels."""
        return replace(self, labels=labels)

    def check(self, input: InputSpec, augment: Augment | None) -> None:
        """Raise ValueError for an input of another size, and for changes other than these two."""
        _, channels, height, width = self.images.shape
        if channels not in (1, input.channels) or (height, width) != input.hw:
            found = f"images of {channels} x {height} x {width}"
            raise ValueError(f"{self.origin}: {found} do not fit an input of {input}")
        check_changes("images in memory", augment, takes=("crop", "flip", "then"))

    def view_size(self, input: InputSpec, augment: Augment | None) -> tuple[int, int]:
        """Return (H, W), the input's."""
        return input.hw

    def preparation(self, input: InputSpec) -> Mapping[str, Any]:
        """Return that images are taken as they are; see `kdx.data.preparation`."""
        return {"mode": {1: "L", 3: "RGB"}.get(self.images.shape[1])}

    def views(
        self, keys: Sequence[Key], input: InputSpec, augment: Augment | None, *, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return images [B, C, H, W], uint8, and labels [B]."""
        indices = torch.tensor([index for _, index in keys])
        pixels = self.images.index_select(0, indices)
        return augmented(pixels, augment, keys, seed=seed), self.labels[indices]

    def view(self, index: int, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
        """Return an image [C, H, W], uint8, and its label []."""
        return view_of(self.subset(torch.tensor([index])), input, augment)


def check_lists(origin: str, labels: Tensor, **lists: Sized) -> None:
    """Raise ValueError unless labels are an int64 tensor [N], and the lists of that length."""
    if not _is(labels, torch.int64, 1):
        raise ValueError(f"{origin}: labels must be an int64 tensor [N], not {found_in(labels)}")
    lengths = {name: len(each) for name, each in {"labels": labels, **lists}.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length:,} {name}" for name, length in lengths.items())
        raise ValueError(f"{origin}: lengths differ: {found}")


def taken(items: Sequence[T], indices: Tensor) -> list[T]:
    """Return the items at `indices` [n], in that order."""
    return [items[int(i)] for i in indices.tolist()]


def check_rgb(kind: str, input: InputSpec) -> None:
    """Raise ValueError unless an input takes RGB."""
    if input.channels != 3:
        raise ValueError(f"{kind} are RGB, and do not fit an input of {input}")


def view_of(source: Batched, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
    """Return a view of the only sample, which torch's generator chooses: `ImageSource.view`."""
    seed = 0 if augment is None else int(torch.randint(2**62, ()))
    images, targets = source.views([(0, 0)], input, augment, seed=seed)
    return images[0], targets[0]


def _is(value: Any, dtype: torch.dtype, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.dtype == dtype and value.ndim == dimensions


def found_in(value: object) -> str:
    """Return type and shape of an unfit value, and its first NaN or Inf."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    bad = value.isfinite().logical_not().nonzero()
    where = f" with {value[tuple(bad[0])]} in sample {int(bad[0, 0])}" if bad.numel() else ""
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{where}"
