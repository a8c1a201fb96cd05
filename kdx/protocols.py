"""The contracts between kdx and what plugs into it. Imports nothing of kdx.

B: batch, N: samples, C: classes, H, W: height and width in pixels, A: anchors, GH, GW: the grid's
rows and columns, M: the most boxes of an image in the batch.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = [
    "IGNORED",
    "DatasetFactory",
    "Holding",
    "ImageData",
    "ImageSource",
    "InputSpec",
    "Loss",
    "Meter",
    "NetworkFactory",
    "Outputs",
    "Planned",
    "SceneSource",
    "StudentTransform",
    "Task",
]

IGNORED = -100
"""The class of a pixel that does not count, as in torch's cross-entropy."""


@dataclass(frozen=True)
class Outputs:
    """What a network said of a batch: its answer and the features that losses asked for.

    `logits` are [B, C] in classification, [B, C, H, W] in segmentation, [B, A * (5 + C), GH, GW]
    in detection. `features[path]` is the output of the module at `path` of the *compact* network.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


class Loss(Protocol):
    """An unweighted scalar from a batch's outputs; an `nn.Module` where it owns parameters.

    A loss reads the features that it needs by module path, `student.features["conv3"]`: reading
    is asking for them. Its first call comes on a probe batch, before the optimizer exists; a loss
    with parameters sizes and creates them then. It is a mean over the batch of what each image
    gives, so that a batch may be seen in parts.

    Of the facts of its task (`Task.facts`) its factory gets those that its signature names.
    """

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return a scalar. `target` is the task's, see `Task`; `teacher` is None without one."""
        ...


@runtime_checkable
class StudentTransform(Protocol):
    """A rewriting of the student that holds during training only.

    Its factory gets `input_shape`, the batches (B, channels, H, W) that the student will see at
    once, where its signature names it and the recipe does not set it.
    """

    def apply(self, student: nn.Module) -> nn.Module:
        """Return the student to train; ValueError where nothing in `student` matches."""
        ...

    def enter(self, student: nn.Module, phase: str) -> None:
        """Start a stage of the recipe that names `phase`; ValueError for an unknown phase."""
        ...

    def restore(self, student: nn.Module) -> nn.Module:
        """Return the compact network as a new module: the same function in eval mode."""
        ...


@runtime_checkable
class Planned(Protocol):
    """A transform that can say beforehand what it would do; optional."""

    def plan(self, student: nn.Module) -> object:
        """Return what `apply` would do to `student`; `str()` of it is a table to print."""
        ...


@runtime_checkable
class Holding(Protocol):
    """A transform that saves work while the student's parameters do not change; optional."""

    def hold(self, student: nn.Module) -> AbstractContextManager[object]:
        """Return a context for an evaluation or a forward pass, to be entered many times."""
        ...


class NetworkFactory(Protocol):
    """Builds a network: images [B, channels, H, W] to the one tensor that its task asks for.

    Of `in_channels`, `image_size` and the facts of the task (`num_classes` for all), the ones that
    its signature names are filled in from the data set, unless the recipe sets them.
    """

    def __call__(self, *args: Any, **arguments: Any) -> nn.Module:
        """Return a new network with random weights, or with published ones where asked."""
        ...


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
        """Return an image, uint8 [3, H, W], and its target, at least 1-d; without batch.

        Random changes draw from torch's CPU generator, which is seeded for this very view.
        `augment` None is the view for evaluation. ValueError names a file that cannot be read.
        """
        ...


class Meter(Protocol):
    """Adds up how good the answers are, a batch at a time, each sample once."""

    def update(self, answer: Tensor, target: Tensor) -> None:
        """Take a network's answer to a batch, in float32, and the batch's target."""
        ...

    def compute(self) -> Mapping[str, float]:
        """Return the metrics by name, over all processes: those of `Task.metrics`, and others."""
        ...


class Task(Protocol):
    """What the networks of a data set answer, and how an answer is judged.

    `metrics` are headings of shares in [0, 1] by name, the one that chooses the best epoch first.
    `facts` are what networks and losses may ask to know, with `num_classes` among them.
    `chance` is what a network that knows nothing reaches in the first metric. `spatial` says that
    an answer is of places in the image: a teacher then sees images of the student's size.

    Answers and targets are one tensor each, batch first. Classification: [B, C], and classes [B].
    Segmentation: [B, C, H, W], and classes [B, H, W], -100 where a pixel does not count.
    Detection: [B, A * (5 + C), GH, GW], and boxes [B, M, 6] as (class, x, y, w, h, difficult),
    centre and size as shares of the image, images of fewer boxes filled up with rows of -1.
    """

    @property
    def metrics(self) -> Mapping[str, str]:
        """Headings by name, the first one chooses."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Arguments by name, as JSON can hold them."""
        ...

    @property
    def chance(self) -> float:
        """In [0, 1]."""
        ...

    @property
    def spatial(self) -> bool:
        """Whether an answer is of places in the image."""
        ...

    def check(self, answer: object, images: Tensor) -> None:
        """Raise ValueError where `answer` cannot be a network's answer to `images`."""
        ...

    def check_source(self, source: ImageSource) -> None:
        """Raise ValueError that names the first sample whose target is none of the task's."""
        ...

    def meter(self, device: torch.device) -> Meter:
        """Return an empty meter that works on a device."""
        ...

    def decide(self, answer: Tensor) -> Tensor:
        """Return what the answer says for sure, int64 [B, ...]: the likeliest classes, say."""
        ...

    def draw(self, image: Tensor, target: Tensor, answer: Tensor) -> Tensor | None:
        """Draw target and answer on an image, uint8 [3, H, W]; None where there is no picture.

        `target` and `answer` are of this image alone, without batch.
        """
        ...


@dataclass(frozen=True)
class ImageData:
    """A data set: the training and the test images, and what every network must know of them.

    `notes`: what a run shall say of it, such as images that were left out. `task`: what its
    networks shall do; None for classification.
    """

    train: ImageSource
    test: ImageSource
    classes: Sequence[str]
    input: InputSpec
    notes: Sequence[str] = ()
    task: Task | None = None


class DatasetFactory(Protocol):
    """Opens a data set; every problem that can be seen without decoding is raised here."""

    def __call__(self, *args: Any, **arguments: Any) -> ImageData:
        """Return the data set; ValueError names the place and the value that is wrong."""
        ...
