"""Networks, losses and transforms. B: batch, C: classes, A: anchors, H, W, GH, GW: sizes."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network for a batch: logits, and the feature maps that losses read.

    `logits` are [B, C] in classification, [B, C, H, W] in segmentation, [B, A * (5 + C), GH, GW]
    in detection. `features[path]` is the output of the module at `path` of the *compact* network,
    as a map [B, C, H, W], tokens [B, N, C] or vectors [B, C].
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


class Loss(Protocol):
    """An unweighted scalar from a batch's outputs; an `nn.Module` where it owns parameters.

    A loss reads the features that it needs by module path, `student.features["conv3"]`. Its first
    call comes on a probe batch, before the optimizer exists: then it creates its parameters. It is
    a mean over the batch of what each image gives, so that a batch may be seen in parts. Its
    factory gets those facts of its task (`Task.facts`) that its signature names, and of the run:
    `teacher_network` (a module, or None), `train_images` (how many), `class_counts`
    (of them, of each class; not for all tasks) and `run_seed`.
    """

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return a scalar. `target` is the task's, see `Task`; `teacher` is None without one."""
        ...


@runtime_checkable
class SharedState(Protocol):
    """A loss that keeps large buffers equal on all processes itself; optional.

    `shared` are their names: kdx neither broadcasts them nor saves them for each process. They
    exist from the start.
    """

    shared: Sequence[str]


@runtime_checkable
class StudentTransform(Protocol):
    """A rewriting of the student that holds during training only.

    Its factory gets `input_shape`, the student's batches (B, channels, H, W), if it names it.
    """

    def apply(self, student: nn.Module) -> nn.Module:
        """Return the student to train; ValueError where nothing in `student` matches."""
        ...

    def enter(self, student: nn.Module, phase: str) -> None:
        """Start a stage of the recipe that names `phase`; ValueError for an unknown phase.

        Of several transforms those enter that know the phase. In one that a transform lists in
        its `phases`, if it has that attribute, a ValueError is an error of its own.
        """
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


class Leaves(Protocol):
    """An nn.Module whose parameters stand for others while its context lasts.

    `replaced` are the names of the student's parameters and buffers that they stand for; `pairs`,
    in the context, each leaf with the weight that it stands for, as a function of those.
    """

    replaced: Sequence[str]
    pairs: Sequence[tuple[nn.Parameter, Tensor]]

    def held(self) -> AbstractContextManager[object]:
        """Return the context of a step's passes; at its end those others get their gradients."""
        ...


@runtime_checkable
class Detaching(Protocol):
    """A transform whose parameters can get their gradients from compact weights; optional.

    Then processes send the gradients of the compact weights alone.
    """

    def leaves(self, student: nn.Module) -> Leaves:
        """Return the compact weights, for the phase that the transform is in: an nn.Module."""
        ...


@runtime_checkable
class Folding(Protocol):
    """A transform that can return what its parameters stand for, for `decay: product`; optional."""

    def products(self, student: nn.Module) -> Mapping[str, Tensor]:
        """Return parameters of the compact network by name, as differentiable functions of its."""
        ...


@runtime_checkable
class Simulating(Protocol):
    """A transform whose student also evaluates as it will run on a device, in int8; optional.

    So the best epoch is the best there. The network that `restore` returns is compared without.
    """

    def exact(self, student: nn.Module) -> AbstractContextManager[object]:
        """Return a context in which `student` is the function of the network that is restored."""
        ...

    def about(self, student: nn.Module) -> Mapping[str, Any]:
        """Return metadata for the exported file, JSON by a name such as "int8"; empty in float."""
        ...
