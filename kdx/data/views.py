"""What the network sees of a sample: a pure function of (seed, epoch, index).

B: batch, C: channels, H, W: height and width in pixels.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from kdx.data.augment import Augment, flip, normalise, pad_and_crop
from kdx.data.counter import Draw, integers, seeded, uniform
from kdx.data.decode import ATTEMPTS, center_crop, decode, resized_crop
from kdx.data.sources import FileImages, MemoryImages, unknown_kind
from kdx.protocols import ImageSource, InputSpec, SceneSource

__all__ = ["Batch", "Key", "Views"]

SCENES_ONLY = frozenset({"scale", "window", "color", "sizes"})

Key = tuple[int, int]
"""Epoch and index of a sample: with the seed, all that its view depends on."""


class Batch(NamedTuple):
    """Normalised images [B, C, H, W] (float32), targets [B, ...], and indices [B] (int64).

    The targets are the task's (`kdx.protocols.Task`).
    """

    images: Tensor
    targets: Tensor
    indices: Tensor


class Views(Dataset[Batch]):
    """The views of a source's images, fetched a batch at a time by (epoch, index).

    Without `augment` a view is the one for evaluation, the same in every epoch: images in memory
    as they are, files resized and center-cropped, scenes whole. Raises ValueError for a source that
    does not fit the input, or an augmentation that its images cannot have.
    """

    def __init__(
        self, source: ImageSource, input: InputSpec, *, seed: int, augment: Augment | None = None
    ) -> None:
        _check(source, input, augment)
        self.source = source
        self.input = input
        self.seed = seed
        self.augment = augment

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        if isinstance(self.source, SceneSource):
            return (self.input.channels, *self.source.view_size(self.input, self.augment))
        return self.input.shape

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the views at `keys`; ValueError names a file that cannot be decoded."""
        source = self.source
        if not isinstance(source, MemoryImages | FileImages):
            return self._scenes(keys)
        epochs, indices = np.array(keys, np.int64).T.copy()
        rows = torch.from_numpy(indices)
        if isinstance(source, MemoryImages):
            pixels = source.images.index_select(0, rows)
        else:
            pixels = torch.stack([self._decoded(source.paths[i], e, i) for e, i in keys])
        if self.augment is not None:
            pixels = _augmented(pixels, self.augment, self.seed, epochs, indices)
        return Batch(normalise(pixels, self.input), source.labels[rows], rows)

    def _scenes(self, keys: Sequence[Key]) -> Batch:
        source = self.source
        assert isinstance(source, SceneSource), "a source is checked"
        images, targets = [], []
        for epoch, index in keys:
            with seeded(self.seed, epoch, index, Draw.SCENE):
                image, target = source.view(index, self.input, self.augment)
            images.append(image)
            targets.append(target)
        pixels = torch.stack(images)
        return Batch(
            pixels if pixels.is_floating_point() else normalise(pixels, self.input),
            pad_sequence(targets, batch_first=True, padding_value=-1)
            if targets[0].ndim
            else torch.stack(targets),
            torch.tensor([index for _, index in keys]),
        )

    def _decoded(self, path: str, epoch: int, index: int) -> Tensor:
        size = self.input.hw[0]
        if self.augment is None or self.augment.resized_crop is None:
            return decode(path, partial(center_crop, size=size))
        draws = Draw.RESIZED_CROP + np.arange(4 * ATTEMPTS)
        numbers = uniform(self.seed, epoch, index, draws).reshape(ATTEMPTS, 4)
        scale = self.augment.resized_crop
        return decode(path, partial(resized_crop, size=size, scale=scale, numbers=numbers))


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


def _check(source: ImageSource, input: InputSpec, augment: Augment | None) -> None:
    if isinstance(source, SceneSource):
        source.check(input, augment)
        return
    if isinstance(source, MemoryImages):
        _check_fits(source, input, augment)
    elif not isinstance(source, FileImages):
        raise ValueError(unknown_kind(source))
    elif input.channels != 3 or not isinstance(input.size, int):
        raise ValueError(f"image files are RGB and seen as squares: an input of {input} is not")
    if refused := SCENES_ONLY.intersection(augment.changes if augment else ()):
        raise ValueError(
            f"augment.{', '.join(sorted(refused))}: for images with boxes or masks; images of a "
            "class take crop, flip or resized_crop"
        )


def _check_fits(source: MemoryImages, input: InputSpec, augment: Augment | None) -> None:
    _, channels, height, width = source.images.shape
    if channels not in (1, input.channels) or (height, width) != input.hw:
        raise ValueError(
            f"{source.origin}: images of {channels} x {height} x {width} do not fit an input of "
            f"{input}"
        )
    if augment is not None and augment.resized_crop is not None:
        raise ValueError(
            f"{source.origin}: augment.resized_crop is for image files; "
            "images in memory take augment.crop"
        )
