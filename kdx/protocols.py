"""The contracts between kdx and what plugs into it. Imports nothing of kdx.

B: batch, C: classes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = [
    "DatasetFactory",
    "Holding",
    "ImageData",
    "ImageSource",
    "InputSpec",
    "Loss",
    "NetworkFactory",
    "Outputs",
    "Planned",
    "StudentTransform",
]


@dataclass(frozen=True)
class Outputs:
    """What a network said of a batch: `logits` [B, C] and the features that losses asked for.

    `features[path]` is the output of the module at `path` of the *compact* network.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


class Loss(Protocol):
    """An unweighted scalar from a batch's outputs; an `nn.Module` where it owns parameters.

    A loss reads the features that it needs by module path, `student.features["conv3"]`: reading
    is asking for them. Its first call comes on a probe batch, before the optimizer exists; a loss
    with parameters sizes and creates them then.
    """

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return a scalar. `target` [B] holds class indices; `teacher` is None without one."""
        ...


@runtime_checkable
class StudentTransform(Protocol):
    """A rewriting of the student that holds during training only.

    Its factory gets `input_shape`, the batches (B, channels, size, size) that the student will
    see at once, where its signature names it and the recipe does not set it.
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
    """Builds a classifier: [B, channels, size, size] to logits [B, C].

    Of `num_classes`, `in_channels` and `image_size`, the ones that its signature names are
    filled in from the data set, unless the recipe sets them.
    """

    def __call__(self, *args: Any, **arguments: Any) -> nn.Module:
        """Return a new network with random weights, or with published ones where asked."""
        ...


@dataclass(frozen=True)
class InputSpec:
    """The images a network takes: `channels` x `size` x `size`, normalised (x - mean) / std.

    `mean` and `std` are per channel, for pixel values in [0, 1].
    """

    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@runtime_checkable
class ImageSource(Protocol):
    """Images that are fetched by index, with their labels [N] (int64)."""

    labels: Tensor

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def name(self, index: int) -> str:
        """Say what and where the sample is, for error messages."""
        ...


@dataclass(frozen=True)
class ImageData:
    """A data set: the training and the test images, and what every network must know of them.

    `notes`: what a run shall say of it, such as images that were left out.
    """

    train: ImageSource
    test: ImageSource
    classes: Sequence[str]
    input: InputSpec
    notes: Sequence[str] = ()


class DatasetFactory(Protocol):
    """Opens a data set; every problem that can be seen without decoding is raised here."""

    def __call__(self, *args: Any, **arguments: Any) -> ImageData:
        """Return the data set; ValueError names the place and the value that is wrong."""
        ...
