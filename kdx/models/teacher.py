"""The teacher: frozen, locked in eval mode, outside DDP and checkpoints."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdx.launch.precision import autocast
from kdx.models.features import Tapped
from kdx.protocols import InputSpec, Outputs


class Teacher:
    """A frozen network that takes batches made for the student.

    `own` is the input that it was trained with, `given` that of the batches: they are normalised,
    resized and brought to its channels before it sees them. `whose` says where `own` is from;
    `is_known`: from its weights. `notes` are what a run prints of it. A `module` that is an
    AveragedModel, the student's moving average, is the one that training updates: `average`.
    `precision` is what it runs in, "no" for float32; None: as its caller.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        own: InputSpec,
        given: InputSpec,
        whose: str = "the data's",
        is_known: bool = False,
        notes: Sequence[str] = (),
        name: str = "teacher",
        precision: str | None = None,
    ) -> None:
        self.average = module if isinstance(module, AveragedModel) else None
        network = self.average.module if self.average else module
        self.module: nn.Module = network.eval().requires_grad_(False)
        self.whose, self.is_known, self.notes = whose, is_known, notes
        self.own, self.given, self.precision = own, given, precision
        self.role = name if name == "teacher" else f"teacher {name}"
        self._tapped = Tapped(self.module, role=self.role)

    def __call__(self, images: Tensor) -> Outputs:
        """Return logits and the tapped features, without gradients.

        In float32 if it runs in a precision of its own.
        """
        assert not self.module.training, "something put the teacher into train mode"
        with torch.no_grad(), self._cast(images.device):
            return self._tapped(self.see(images), float32=self.precision is not None)

    def _cast(self, device: torch.device) -> AbstractContextManager[object]:
        return nullcontext() if self.precision is None else autocast(self.precision, device)

    @property
    def paths(self) -> tuple[str, ...]:
        """The module paths of the features that the losses of a run read, all stages together."""
        return self._tapped.paths

    def described(self) -> str:
        """Return a line on the tapped features."""
        return self._tapped.described()

    def see(self, images: Tensor) -> Tensor:
        """Return the batch as the network takes it."""
        return adapt(images, self.given, self.own)

    def seeing(self, own: InputSpec) -> "Teacher":
        """Return the same network with images as of `own`."""
        other = copy(self)
        other.own = own
        return other

    def running_in(self, precision: str) -> "Teacher":
        """Return the same network in another precision."""
        other = copy(self)
        other.precision = precision
        return other

    def to(self, device: torch.device) -> "Teacher":
        """Move the network; return self."""
        self.module.to(device)
        return self

    def settle(self, images: Tensor) -> None:
        """Keep copies of tapped features that in-place operations would overwrite."""
        with torch.no_grad():
            self._tapped.clone_overwritten(self.see(images))


class TeacherFn(Protocol):
    """What the training loop calls for the teacher's outputs, computed or from a memo."""

    def __call__(self, images: Tensor, indices: Tensor, *, view: int) -> Outputs:
        """Return the outputs for images [B, C, H, W]: the view number `view` of samples [B].

        `indices` is on the CPU, the outputs are where the images are.
        """
        ...


def live(teacher: Teacher) -> TeacherFn:
    """Return a function that runs the teacher every time."""
    return lambda images, indices, *, view: teacher(images)


def adapt(images: Tensor, given: InputSpec, own: InputSpec) -> Tensor:
    """Turn a batch [B, c, H, W] normalised as `given` into one normalised as `own`.

    (x - m) / s of one is s / s' * y + (m - m') / s' of the other. Grey becomes colour by
    repetition; a change of size is bilinear, antialiased.
    """
    if (given.mean, given.std, given.channels) != (own.mean, own.std, own.channels):
        scale, shift = _affine(given, own, images.device, images.dtype)
        images = images * scale + shift
    if given.size == own.size:
        return images
    return F.interpolate(images, own.hw, mode="bilinear", antialias=True, align_corners=False)


@lru_cache
def _affine(
    given: InputSpec, own: InputSpec, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return scale and shift [channels, 1, 1]; cached, since a copy to a GPU synchronizes it."""
    mean, std, own_mean, own_std = (
        torch.tensor(values, dtype=dtype).view(-1, 1, 1)
        for values in (given.mean, given.std, own.mean, own.std)
    )
    return (std / own_std).to(device), ((mean - own_mean) / own_std).to(device)
