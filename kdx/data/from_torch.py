"""Any map-style torch Dataset of (image, target) as a data set. N: samples, H, W: pixels."""

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from kdx.data.counter import Draw, seeded
from kdx.data.own_copy import OwnCopy, beneath
from kdx.data.vectors import rarest, tenths
from kdx.protocols import ImageData, InputSpec
from kdx.tasks import MultiLabel, Regression

Kind = Literal["classification", "multilabel", "regression"]
SAMPLED = 64  # samples that stand for a set's content, and that mean and std are computed from
SEVERAL = '; for several labels or numbers set task="multilabel" or "regression"'


@dataclass(eq=False)
class DatasetImages:
    """Samples of a Dataset with labels [N] (int64); the Dataset's own transforms make the views.

    Each process reads its own copy of the Dataset, which may open files when it is first read.

    Random transforms draw from torch's, NumPy's or Python's global generator, which `Views` seeds
    for each view. `rows` [N] are the samples' places in it. With `targets` [N, K] (float32)
    the labels are only what splits are stratified by.
    """

    own: OwnCopy
    labels: Tensor
    origin: str
    rows: Tensor
    files: Sequence[str] = ()
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return "train[17]"."""
        return f"{self.origin}[{int(self.rows[index])}]"

    def subset(self, indices: Tensor) -> "DatasetImages":
        """Return the samples at `indices` [n], in that order, under the names they had."""
        targets = None if self.targets is None else self.targets[indices]
        labels, rows = self.labels[indices], self.rows[indices]
        return replace(self, labels=labels, rows=rows, targets=targets)

    def check(self, input: InputSpec, augment: Any) -> None:
        """Raise ValueError for an augmentation: the Dataset has transforms of its own."""
        if augment is not None and augment.changes:
            raise ValueError(
                f"augment.{', '.join(augment.changes)}: not for a torch Dataset: put random "
                "changes into its transforms"
            )

    def view_size(self, input: InputSpec, augment: Any) -> tuple[int, int]:
        """Return (H, W)."""
        return input.hw

    def preparation(self, input: InputSpec) -> Mapping[str, Any]:
        """Return the text of the Dataset's own transform; see `kdx.data.preparation`."""
        dataset = beneath(self.own.given)
        transform = getattr(dataset, "transform", None)
        text = None if transform is None else re.sub(r" at 0x\w+", "", repr(transform))
        return {"by": f"the Dataset {type(dataset).__name__}", "transform": text}

    def view(self, index: int, input: InputSpec, augment: Any) -> tuple[Tensor, Tensor]:
        """Return an image, uint8 or normalised float32 [C, H, W], and its class, 0-d, or target.

        ValueError for an image of another shape than `input`, or another target than the listed.
        """
        goal = (self.labels if self.targets is None else self.targets)[index]
        image, target = _fetch(
            self.own.dataset(), int(self.rows[index]), self.origin, goal.ndim > 0
        )
        if image.shape != input.shape:
            raise ValueError(
                f"{self.name(index)}: the image is {list(image.shape)}, but others are "
                f"{list(input.shape)}: resize all images in the Dataset's transforms"
            )
        if not torch.equal(target, goal):
            listed = f"the Dataset's list of targets says {goal.tolist()}"
            raise ValueError(f"{self.name(index)}: the target is {target.tolist()}, but {listed}")
        return image, goal

    def tensors(self, *, targets: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield 64 views, which stand for the images where runs are compared."""
        if not targets:
            return (("image", image) for image in self.sampled())
        return iter(() if self.targets is None else (("targets", self.targets),))

    def sampled(self) -> Iterator[Tensor]:
        """Yield a view of up to 64 samples, spread over the set: the same ones at each call."""
        count = min(SAMPLED, len(self))
        for index in (i * len(self) // count for i in range(count)):
            with seeded(0, 0, index, Draw.SCENE):
                vector = self.targets is not None
                yield _fetch(self.own.dataset(), int(self.rows[index]), self.origin, vector)[0]


def from_datasets(
    train: Any,
    test: Any,
    *,
    task: Kind = "classification",
    num_classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImageData:
    """Return two torch Datasets of (image, class number) as a data set for classification.

    For `task` "multilabel" targets are vectors [C] of 1, 0, and -1 for unknown; for "regression"
    numbers, or vectors [D], taken as they are. `num_classes` is then their length.

    Images: float tensors [C, H, W], taken as normalised already (`mean` and `std` say by what), or
    uint8 tensors or PIL images (L or RGB), normalised by `mean` and `std`, by default those of 64
    training images. Targets are read from the Dataset's `targets` or `labels`, else from each
    sample; `classes` of `train` names the classes. ValueError for other images and targets, an
    empty Dataset, and random transforms that cannot be seeded.
    """
    if task not in get_args(Kind):
        raise ValueError(f"task: {task!r} is not one of {', '.join(get_args(Kind))}")
    parts = (train, "train"), (test, "test")
    sources = [_source(dataset, origin, task) for dataset, origin in parts]
    first, other = (next(source.sampled()) for source in sources)
    if first.dtype != other.dtype:
        raise ValueError(f"test: images are {other.dtype}, but those of train are {first.dtype}")
    names = [str(name) for name in getattr(beneath(train), "classes", None) or ()]
    listed = sources[0].targets
    most = max(int(each.labels.max()) for each in sources)
    count = num_classes or (len(names) or 1 + most if listed is None else listed.shape[1])
    classes = names if len(names) == count else [str(number) for number in range(count)]
    channels, *size = first.shape
    known = [0.0] * channels, [1.0] * channels
    if first.dtype == torch.uint8:  # of pixels in [0, 1]
        pixels = torch.cat([image.double().flatten(1) / 255 for image in sources[0].sampled()], 1)
        known = pixels.mean(1).tolist(), pixels.std(1).tolist()
    mean, std = (
        tuple(map(float, computed if given is None else given))
        for given, computed in zip((mean, std), known, strict=True)
    )
    side = size[0] if size[0] == size[1] else (size[0], size[1])
    made = None
    if listed is not None:
        chance = float((listed == 1).float().mean())
        made = (
            MultiLabel(num_classes=count, chance=chance)
            if task == "multilabel"
            else Regression(outputs=classes)
        )
    spec = InputSpec(channels, side, mean, std)
    return ImageData(*sources, classes=classes, input=spec, task=made)


def _source(dataset: Any, origin: str, task: Kind) -> DatasetImages:
    own = OwnCopy(dataset)
    dataset = own.dataset()
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and len(dataset)):
        kind = type(dataset).__name__
        raise ValueError(f"{origin}: {kind} is empty, or no map-style Dataset: it needs samples")
    rows = torch.arange(len(dataset))
    if task == "classification":
        source = DatasetImages(own, _listed(dataset, origin, False), origin, rows)
    else:
        targets = _listed(dataset, origin, True)
        strata = rarest(targets) if task == "multilabel" else tenths(targets)
        source = DatasetImages(own, strata, origin, rows, targets=targets)
    if not torch.equal(next(source.sampled()), next(source.sampled())):
        raise ValueError(
            f"{origin}: random transforms are not reproducible: two views from the same seed "
            "differ. Their generator is not torch's, NumPy's or Python's global one: seed it in "
            "__getitem__, with int(torch.randint(2**31, ())) for example"
        )
    return source


def _listed(dataset: Any, origin: str, vector: bool) -> Tensor:
    """Return the targets, [N] (int64) or [N, K] (float32).

    Images are not read if the Dataset lists them.
    """
    if isinstance(dataset, Subset):
        return _listed(dataset.dataset, origin, vector)[torch.as_tensor(dataset.indices)]
    for name in ("targets", "labels"):
        with suppress(TypeError, ValueError, RuntimeError):
            listed = torch.as_tensor(getattr(dataset, name, None))
            whole = listed.shape[:1] == (len(dataset),) and listed.ndim <= 1 + vector
            if not whole or getattr(dataset, "target_transform", None) is not None:
                continue
            if vector:
                return listed.float().reshape(len(dataset), -1)
            if not listed.is_floating_point():
                return listed.long()
    targets = []
    for row in range(len(dataset)):
        with seeded(0, 0, row, Draw.SCENE):
            targets.append(_fetch(dataset, row, origin, vector)[1])
        if targets[row].shape != targets[0].shape:
            shapes = f"{list(targets[row].shape)}, but others are {list(targets[0].shape)}"
            raise ValueError(f"{origin}[{row}]: the target is {shapes}")
    return torch.stack(targets)


def _fetch(dataset: Any, row: int, origin: str, vector: bool) -> tuple[Tensor, Tensor]:
    """Return an image, uint8 or float32 [C, H, W], and its target, [] int64 or [K] float32."""
    sample = dataset[row]
    try:
        image, given = sample
        target = _vector(given) if vector else torch.tensor(operator.index(given))
    except (TypeError, ValueError, RuntimeError):
        what = "vector of numbers" if vector else "class number"
        more = "" if vector else SEVERAL
        raise ValueError(
            f"{origin}[{row}]: a sample must be (image, {what}), not {_kind(sample)}{more}"
        ) from None
    if isinstance(image, Image.Image) and image.mode in ("L", "RGB"):
        return torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1), target
    if isinstance(image, Tensor) and image.ndim == 3:
        if image.is_floating_point():
            return image.detach().float(), target
        if image.dtype == torch.uint8:
            return image, target
    raise ValueError(
        f"{origin}[{row}]: an image must be a float or uint8 tensor [C, H, W] or a PIL image of "
        f"mode L or RGB, not {_kind(image)}"
    )


def _vector(given: Any) -> Tensor:
    """Return [K] of a number or a vector; ValueError for others."""
    target = torch.as_tensor(given, dtype=torch.float32)
    if target.ndim > 1:
        raise ValueError("a vector has one dimension")
    return target.reshape(-1)


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_kind, value))})"
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__name__} {getattr(value, 'mode', '')}".strip()
