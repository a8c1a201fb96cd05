"""What the network sees of a sample: a pure function of (seed, epoch, index).

B: batch, C: channels, S: input size.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from kdx.data.augment import Augment, flip, normalise, pad_and_crop
from kdx.data.counter import Draw, integers, uniform
from kdx.data.decode import ATTEMPTS, center_crop, decode, resized_crop
from kdx.data.sources import FileImages, MemoryImages, unknown_kind
from kdx.protocols import ImageSource, InputSpec

__all__ = ["Batch", "Key", "Views"]

Key = tuple[int, int]
"""Epoch and index of a sample: with the seed, all that its view depends on."""


class Batch(NamedTuple):
    """Normalised images [B, C, S, S] (float32), labels [B] and indices [B] (int64)."""

    images: Tensor
    labels: Tensor
    indices: Tensor


class Views(Dataset[Batch]):
    """The views of a source's images, fetched a batch at a time by (epoch, index).

    Without `augment` a view is the one for evaluation, the same in every epoch: images in memory
    as they are, files resized and center-cropped. Raises ValueError for a source that does not
    fit the input, or an augmentation that its images cannot have.
    """

    def __init__(
        self, source: ImageSource, input: InputSpec, *, seed: int, augment: Augment | None = None
    ) -> None:
        if not isinstance(source, MemoryImages | FileImages):
            raise ValueError(unknown_kind(source))
        if isinstance(source, MemoryImages):
            _check_fits(source, input, augment)
        elif input.channels != 3:
            raise ValueError(f"image files are RGB: an input of {input.channels} channels is not")
        self.source = source
        self.input = input
        self.seed = seed
        self.augment = augment

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the views at `keys`; ValueError names a file that cannot be decoded."""
        epochs, indices = np.array(keys, np.int64).T.copy()
        rows = torch.from_numpy(indices)
        if isinstance(self.source, MemoryImages):
            pixels = self.source.images.index_select(0, rows)
        else:
            pixels = torch.stack([self._decoded(self.source.paths[i], e, i) for e, i in keys])
        if self.augment is not None:
            pixels = _augmented(pixels, self.augment, self.seed, epochs, indices)
        return Batch(normalise(pixels, self.input), self.source.labels[rows], rows)

    def _decoded(self, path: str, epoch: int, index: int) -> Tensor:
        if self.augment is None or self.augment.resized_crop is None:
            return decode(path, partial(center_crop, size=self.input.size))
        draws = Draw.RESIZED_CROP + np.arange(4 * ATTEMPTS)
        numbers = uniform(self.seed, epoch, index, draws).reshape(ATTEMPTS, 4)
        scale = self.augment.resized_crop
        crop = partial(resized_crop, size=self.input.size, scale=scale, numbers=numbers)
        return decode(path, crop)


def _augmented(
    pixels: Tensor, augment: Augment, seed: int, epochs: NDArray, indices: NDArray
) -> Tensor:
    if augment.crop:
        top, left = (
            integers(seed, epochs, indices, draw, 2 * augment.crop + 1)
            for draw in (Draw.TOP, Draw.LEFT)
        )
        pixels = pad_and_crop(pixels, augment.crop, top=top, left=left)
    if augment.flip:
        pixels = flip(pixels, uniform(seed, epochs, indices, Draw.FLIP) < 0.5)
    return pixels


def _check_fits(source: MemoryImages, input: InputSpec, augment: Augment | None) -> None:
    _, channels, height, width = source.images.shape
    if channels not in (1, input.channels) or (height, width) != (input.size, input.size):
        raise ValueError(
            f"{source.origin}: images of {channels} x {height} x {width} do not fit an input of "
            f"{input.channels} x {input.size} x {input.size}"
        )
    if augment is not None and augment.resized_crop is not None:
        raise ValueError(
            f"{source.origin}: augment.resized_crop is for image files; "
            "images in memory take augment.crop"
        )
