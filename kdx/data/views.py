"""What the network sees of a sample: a pure function of (seed, epoch, index).

B: batch, C: channels, H, W: height and width in pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from kdx.data.augment import Augment, normalise
from kdx.data.counter import Draw, seeded
from kdx.protocols import Batched, ImageSource, InputSpec, Key


class Batch(NamedTuple):
    """Normalised images [B, C, H, W] (float32), targets [B, ...], and indices [B] (int64).

    The targets are the task's (`kdx.protocols.Task`).
    """

    images: Tensor
    targets: Tensor
    indices: Tensor


class Views(Dataset[Batch]):
    """The views of a source's images, fetched a batch at a time by (epoch, index).

    Without `augment` these are the views for evaluation, the same in every epoch. Raises ValueError
    for a source that does not fit the input, or an augmentation that its images cannot have.
    """

    def __init__(
        self, source: ImageSource, input: InputSpec, *, seed: int, augment: Augment | None = None
    ) -> None:
        if not isinstance(source, ImageSource):
            raise ValueError(
                f"{type(source).__name__} is not an image source: use kdx.data.MemoryImages or "
                "FileImages, or implement kdx.protocols.ImageSource"
            )
        source.check(input, augment)
        self.source = source
        self.input = input
        self.seed = seed
        self.augment = augment

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return (self.input.channels, *self.source.view_size(self.input, self.augment))

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the views at `keys`; ValueError names a file that cannot be decoded."""
        if isinstance(self.source, Batched):
            images, targets = self.source.views(keys, self.input, self.augment, seed=self.seed)
        else:
            images, targets = self._one_by_one(keys)
        if images.dtype != torch.float32:
            images = normalise(images, self.input)
        return Batch(images, targets, torch.tensor([index for _, index in keys]))

    def _one_by_one(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
        images, targets = [], []
        for epoch, index in keys:
            with seeded(self.seed, epoch, index, Draw.SCENE):
                image, target = self.source.view(index, self.input, self.augment)
            images.append(image)
            targets.append(target)
        dtypes = {image.dtype for image in images}
        if dtypes not in ({torch.uint8}, {torch.float32}):
            raise ValueError(
                f"{type(self.source).__name__}: views must be all uint8 or all float32, not "
                f"{', '.join(sorted(map(str, dtypes)))}"
            )
        if targets[0].ndim == 0:
            return torch.stack(images), torch.stack(targets)
        return torch.stack(images), pad_sequence(targets, batch_first=True, padding_value=-1)
