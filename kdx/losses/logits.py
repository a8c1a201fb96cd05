"""Losses on logits. B: batch, C: classes."""

from abc import ABC, abstractmethod
from typing import ClassVar, TypedDict, Unpack

import torch
from torch import Tensor

from kdx.losses.shared import check_classes, full_precision, need_teacher
from kdx.protocols import Outputs

LARGEST = 1e6  # softer than any difference that float32 keeps
EPS = 1e-7  # added to the standard deviation, as by the authors


class LogitOptions(TypedDict, total=False):
    """`standardize` the logits (Sun et al. 2024); `num_classes`, to refuse other logits."""

    standardize: bool
    num_classes: int | None


class LogitLoss(ABC):
    """A loss of the student's and the teacher's logits [B, C] at a temperature T.

    `dense`: whether logits may have positions, [B, C, ...]. ValueError for T outside (0, 1e6].
    """

    DEFAULTS: ClassVar = {"standardize": False}
    dense: ClassVar[bool] = False

    def __init__(self, *, temperature: float, **options: Unpack[LogitOptions]) -> None:
        self.temperature = checked_temperature(temperature)
        self.standardize = options.get("standardize", False)
        self.num_classes = options.get("num_classes")

    @property
    def mean_at(self) -> float | None:
        """The temperature at which several teachers' probabilities are averaged; None: never."""
        return self.temperature

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; `target` [B] are class indices, if the loss reads them.

        ValueError without a teacher of the same shape, for logits of other shapes, and if C is not
        `num_classes`.
        """
        name, own = type(self).__name__.lower(), student.logits
        soft = need_teacher(teacher, name).logits.detach()
        check_classes(own, self.num_classes, name, on_grid="yolo_kd")
        if own.ndim != 2 and not self.dense:
            raise ValueError(f"{name}: needs logits [B, C], one label a sample: {list(own.shape)}")
        if soft.shape != own.shape:
            shapes = f"{tuple(own.shape)}, the teacher's {tuple(soft.shape)}"
            same = "both networks must have the same classes, height and width"
            raise ValueError(f"{name}: the student's logits are {shapes}: {same}")
        if self.standardize:
            if own.shape[1] < 3:
                few = f"of {own.shape[1]} classes standardised logits have no gradient"
                raise ValueError(f"{name}: standardize: {few}: leave it out")
            own, soft = standardized(own), standardized(soft)
        return full_precision(self.distance)(own, soft, target)

    @abstractmethod
    def distance(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the scalar from logits of float32 at least; the teacher's are detached."""


def checked_temperature(temperature: float) -> float:
    """Return T > 0, at most 1e6; ValueError otherwise."""
    if not 0 < temperature <= LARGEST:
        allowed = f"a finite number above 0, at most {LARGEST:g}"
        raise ValueError(f"temperature: {temperature} is not {allowed}")
    return temperature


@full_precision
def standardized(logits: Tensor) -> Tensor:
    """Return (z - mean) / (std + 1e-7) over the classes (Sun et al. 2024, equation 10).

    The standard deviation is the unbiased one. Equal logits give zeros, with a finite gradient.
    """
    centred = logits - logits.mean(1, keepdim=True)
    largest = centred.detach().abs().amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    rows = centred / largest
    variance = rows.square().sum(1, keepdim=True) / max(1, rows.shape[1] - 1)
    deviation = torch.where(variance > 0, variance, 1.0).sqrt()
    return rows / (deviation + EPS / largest)


def others(logits: Tensor, target: Tensor) -> Tensor:
    """Return the logits [B, C - 1] of the classes that are not the target [B]."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    return logits[classes != target[:, None]].view(len(logits), -1)
