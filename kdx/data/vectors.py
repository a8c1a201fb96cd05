"""Images with a vector of numbers each: several labels, or what is measured. N: samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdx.data.augment import Augment
from kdx.data.files import FileImages
from kdx.data.sources import MemoryImages
from kdx.protocols import ImageSource, InputSpec, Key
from kdx.tasks.vectors import VectorSource

PARTS = 10  # of equal size, by which numbers are stratified


@dataclass(eq=False)
class VectorImages:
    """The `images` with `targets` [N, K] (float32) in place of their labels.

    The labels are what splits are stratified by: see `rarest` and `tenths`. ValueError for targets
    of another dtype or length.
    """

    images: FileImages | MemoryImages
    targets: Tensor

    def __post_init__(self) -> None:
        found = f"{str(self.targets.dtype).removeprefix('torch.')} {list(self.targets.shape)}"
        if found != f"float32 [{len(self.images)}, {self.targets[:1].numel()}]":
            needed = f"targets must be a float32 tensor [{len(self.images)}, K]"
            raise ValueError(f"VectorImages: {needed}, not {found}")
        self.labels = self.images.labels

    @property
    def files(self) -> Sequence[str]:
        """Those of the images."""
        return self.images.files

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """Return the name of the image."""
        return self.images.name(index)

    def subset(self, indices: Tensor) -> "VectorImages":
        """Return the samples at `indices` [n], in that order, with unchanged names."""
        return replace(self, images=self.images.subset(indices), targets=self.targets[indices])

    def check(self, input: InputSpec, augment: Augment | None) -> None:
        """Raise ValueError as the images do."""
        self.images.check(input, augment)

    def view_size(self, input: InputSpec, augment: Augment | None) -> tuple[int, int]:
        """Return (H, W), as the images do."""
        return self.images.view_size(input, augment)

    def preparation(self, input: InputSpec) -> Mapping[str, Any]:
        """Return what the images do; see `kdx.data.preparation`."""
        return self.images.preparation(input)

    def tensors(self, *, targets: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield those of the images, or the targets."""
        yield from self.images.tensors(targets=targets)
        if targets:
            yield "targets", self.targets

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image of its own size, uint8, and its target [K]."""
        return self.images.whole(index)[0], self.targets[index]

    def views(
        self, keys: Sequence[Key], input: InputSpec, augment: Augment | None, *, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return images [B, C, H, W], uint8, and targets [B, K]."""
        images, _ = self.images.views(keys, input, augment, seed=seed)
        return images, self.targets[[index for _, index in keys]]

    def view(self, index: int, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
        """Return an image [C, H, W], uint8, and its target [K]."""
        return self.images.view(index, input, augment)[0], self.targets[index]


def rarest(targets: Tensor) -> Tensor:
    """Return of each sample the label that fewest have [N] (int64), K for none, of [N, K]."""
    counts = (targets == 1).sum(0)
    rank = torch.where(targets == 1, counts, len(targets) + 1)
    return torch.where((targets == 1).any(1), rank.argmin(1), targets.shape[1])


def tenths(targets: Tensor) -> Tensor:
    """Return in which tenth of all samples each one's first number is [N] (int64), of [N, K]."""
    ranks = targets[:, 0].argsort(stable=True).argsort()
    return ranks * PARTS // max(1, len(targets))


def label_shares(source: ImageSource) -> list[float] | None:
    """Return the share of the images that have each label, of those known; None without vectors."""
    if not isinstance(source, VectorSource):
        return None
    known = (source.targets >= 0).sum(0).clamp(min=1)
    return ((source.targets == 1).sum(0) / known).tolist()
