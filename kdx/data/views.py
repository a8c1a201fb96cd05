"""What the network sees of a sample: a pure function of (seed, epoch, index). B: batch."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from kdx.data.augment import Augment, normalise
from kdx.data.counter import Draw, seeded
from kdx.data.crops import resized_side
from kdx.data.files import FileImages
from kdx.data.mixing import Mixing
from kdx.data.pipeline import Pipeline
from kdx.protocols import Batched, ImageData, ImageSource, InputSpec, Key, Located, Whole


class Batch(NamedTuple):
    """Normalised images [B, C, H, W] (float32), the task's targets, and indices [B] (int64).

    The targets of mixed images are probabilities of the classes (float32), a row for each.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor


class Views(Dataset[Batch]):
    """The views of a source's images, fetched a batch at a time by (epoch, index).

    Without `augment` these are the views for evaluation, the same in every epoch. With `mixing`
    they are mixed after normalisation, which is mixing pixels without rounding. Raises ValueError
    for a source that does not fit the input, or an augmentation that its images cannot have.
    """

    def __init__(
        self,
        source: ImageSource,
        input: InputSpec,
        *,
        seed: int,
        augment: Augment | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        if not isinstance(source, ImageSource):
            use = "kdx.data.MemoryImages or FileImages, or implement kdx.protocols.ImageSource"
            raise ValueError(f"{type(source).__name__} is not an image source: use {use}")
        source.check(input, augment)
        self.source, self.input, self.seed, self.augment = source, input, seed, augment
        self.mixing = mixing
        size = source.view_size(input, augment)
        self.pipeline = Pipeline(augment, size) if augment and augment.then else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return (self.input.channels, *self.source.view_size(self.input, self.augment))

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the views at `keys`; ValueError names a file that cannot be decoded."""
        return self.finished(self.drawn(keys))

    def spread(self, count: int, size: int) -> Iterator[Batch]:
        """Yield up to `count` views of epoch 0, spread over all, in batches of `size`."""
        count = min(count, len(self))
        keys = [(0, i * len(self) // count) for i in range(count)]
        yield from (self.__getitems__(keys[i : i + size]) for i in range(0, count, size))

    def drawn(self, keys: Sequence[Key]) -> Batch:
        """Return the views at `keys` as workers pass them on: bytes are not normalised yet.

        Mixed images are. Errors as above.
        """
        if self.mixing is None:
            images, targets = self._unmixed(keys)
        else:
            partners = self.mixing.partners(keys, len(self), seed=self.seed)
            images, targets = self._unmixed([*keys, *partners])
            images = self._normalised(images)
            images, targets = self.mixing.mix(images, targets, keys, seed=self.seed)
        return Batch(images, targets, torch.tensor([index for _, index in keys]))

    def finished(
        self, batch: Batch, *, device: torch.device | None = None, channels_last: bool = False
    ) -> Batch:
        """Return a drawn batch with its images on a device, where they are normalised."""
        images = batch.images.to(device, non_blocking=True)
        return batch._replace(images=self._normalised(images, channels_last=channels_last))

    def _normalised(self, images: Tensor, *, channels_last: bool = False) -> Tensor:
        if images.dtype == torch.float32:
            return images
        return normalise(images, self.input, channels_last=channels_last)

    def checked(self, keys: Sequence[Key]) -> Batch:
        """Return the views at `keys`; ValueError for views that are not the same twice.

        Also for a list of augmentations that fails on other views of the first image.
        """
        batches = []
        for other in (0, 1):
            with seeded(other, 0, 0, Draw.SCENE):
                batches.append(self.__getitems__(keys))
        one, two = batches
        if not (torch.equal(one.images, two.images) and torch.equal(one.targets, two.targets)):
            raise ValueError(
                f"{type(self.source).__name__}: views are not reproducible: two of the same seed, "
                "epoch and index differ. Draw random numbers in view() from the global generators "
                "of torch, NumPy or Python, and in views() from its seed and keys alone"
            )
        if self.pipeline is not None:
            self.pipeline.rehearse(self._whole(keys[0][1])[0])
        return one

    def _unmixed(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
        """Return images, normalised if they are float32, and targets."""
        if self.pipeline is not None:
            return _stacked([self._view_of_list(self.pipeline, key) for key in keys])
        if isinstance(self.source, Batched):
            return self.source.views(keys, self.input, self.augment, seed=self.seed)
        return self._one_by_one(keys)

    def _view_of_list(self, pipeline: Pipeline, key: Key) -> tuple[Tensor, Tensor]:
        """Return an image after the recipe's list of augmentations, and its target."""
        _, index = key
        sample, target = self._whole(index)
        try:
            parts = pipeline.applied(sample, key, seed=self.seed)
        except ValueError as error:
            raise ValueError(f"{error}, of {self.source.name(index)}") from error
        if isinstance(self.source, Located):
            return self.source.fitted(index, parts, self.input, self.augment)
        # An image that the list has not cropped is seen as in evaluation.
        same = isinstance(self.source, FileImages) and parts[0].shape == sample[0].shape
        shorter = resized_side(self.input.hw[0]) if same else None
        return pipeline.fit(parts[0], shorter=shorter), target

    def _whole(self, index: int) -> tuple[Sequence[Tensor], Tensor]:
        """Return an image before any augmentation, with what lies on it, and its target if not."""
        if isinstance(self.source, Located):
            return self.source.located(index), torch.empty(0)
        if isinstance(self.source, Whole):
            image, target = self.source.whole(index)
        else:
            image, target = self.source.view(index, self.input, None)
        if image.dtype != torch.uint8:
            found = f"those of {type(self.source).__name__} are {image.dtype}"
            raise ValueError(f"augment: a list is for uint8 images, and {found}")
        return [image], target

    def _one_by_one(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
        views = []
        for epoch, index in keys:
            with seeded(self.seed, epoch, index, Draw.SCENE):
                views.append(self.source.view(index, self.input, self.augment))
        dtypes = {image.dtype for image, _ in views}
        if dtypes not in ({torch.uint8}, {torch.float32}):
            found, name = ", ".join(sorted(map(str, dtypes))), type(self.source).__name__
            raise ValueError(f"{name}: views must be all uint8 or all float32, not {found}")
        return _stacked(views)


def _stacked(views: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return images [B, C, H, W] and targets, shorter ones padded with -1."""
    images, targets = [image for image, _ in views], [target for _, target in views]
    if targets[0].ndim == 0:
        return torch.stack(images), torch.stack(targets)
    return torch.stack(images), pad_sequence(targets, batch_first=True, padding_value=-1)


def check_data(data: ImageData) -> None:
    """Raise ValueError if a data set cannot be trained on, naming the part or the sample.

    Refused: fewer than two classes, or than one if the data set brings a task; an input that no
    pixels can be normalised to, images that do not fit it, and a split without images.
    """
    least, spec = 1 if data.task else 2, data.input
    if len(data.classes) < least:
        raise ValueError(f"too few classes: {list(data.classes)}, but {least} or more are needed")
    if min(spec.hw) < 1 or not len(spec.mean) == len(spec.std) == spec.channels:
        wanted = "size must be 1 or more, and mean and std have a number for each channel"
        raise ValueError(f"{spec!r}: {wanted}")
    if not all(map(math.isfinite, spec.mean)) or not all(0 < s < math.inf for s in spec.std):
        raise ValueError(f"{spec!r}: mean must be finite, and std above 0")
    for part, source in (("train", data.train), ("test", data.test)):
        Views(source, spec, seed=0)  # refuses images that do not fit
        if not len(source):
            raise ValueError(f"{part}: it has no images")
