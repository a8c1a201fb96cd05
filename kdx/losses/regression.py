"""Distances of a network's outputs from numbers, or from the teacher's outputs.

B: batch, D: outputs.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.losses.shared import full_precision, need_teacher
from kdx.protocols import Outputs

__all__ = ["L1", "MSE", "Distance", "SmoothL1"]

To = Literal["target", "teacher"]


class Distance(ABC):
    """The mean of a distance over outputs and batch, `to` the target, or the teacher's outputs.

    To the teacher's outputs it suits any task: those are logits then (Kim et al. 2021 compare their
    squares with KD). ValueError for another `to`.
    """

    def __init__(self, *, to: To = "target") -> None:
        if to not in ("target", "teacher"):
            raise ValueError(f"to: {to!r} is not one of 'target', 'teacher'")
        self.to = to

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar of outputs [B, ...]; ValueError for a goal of another shape."""
        name, own = type(self).__name__.lower(), student.logits
        goal = need_teacher(teacher, name).logits.detach() if self.to == "teacher" else target
        if not goal.is_floating_point() or goal.shape != own.shape:
            kind = f"{str(goal.dtype).removeprefix('torch.')} {list(goal.shape)}"
            raise ValueError(f"{name}: outputs {list(own.shape)} do not fit the {self.to}'s {kind}")
        wide = torch.promote_types(own.dtype, torch.float32)
        return full_precision(self.distance)(own.to(wide), goal.to(wide))

    @abstractmethod
    def distance(self, own: Tensor, goal: Tensor) -> Tensor:
        """Return the scalar from outputs of float32 at least, both of one shape."""


class MSE(Distance):
    """The mean square of output minus target; `to: teacher`: minus the teacher's output."""

    def distance(self, own: Tensor, goal: Tensor) -> Tensor:
        """Return the scalar."""
        return F.mse_loss(own, goal)


class L1(Distance):
    """The mean absolute difference of output and target; `to: teacher`: and teacher's output."""

    def distance(self, own: Tensor, goal: Tensor) -> Tensor:
        """Return the scalar."""
        return F.l1_loss(own, goal)


class SmoothL1(Distance):
    """e^2 / (2 beta) for |e| < beta, else |e| - beta / 2 (Girshick 2015); e: output minus target.

    With `to: teacher` e is the output minus the teacher's. `beta` is finite and above 0; ValueError
    otherwise.
    """

    def __init__(self, *, beta: float = 1.0, to: To = "target") -> None:
        super().__init__(to=to)
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta: {beta} is not a finite number above 0")
        self.beta = beta

    def distance(self, own: Tensor, goal: Tensor) -> Tensor:
        """Return the scalar."""
        return F.smooth_l1_loss(own, goal, beta=self.beta)
