"""Normalized knowledge distillation (Yang et al. 2023). B: batch, C: classes."""

from typing import Unpack

import torch
from torch import Tensor

from kdx.losses.logits import LogitLoss, LogitOptions, others
from kdx.losses.shared import checked_scales, hard

__all__ = ["NKD"]


class NKD(LogitLoss):
    """-p_t[y] log p_s[y] - gamma T^2 sum of q_t log q_s over the other classes, mean over batch.

    p is the softmax at temperature 1, q the softmax over the classes that are not the target y, at
    `temperature` T (equation 7). Of a mixed image y is the label with the larger share.
    `gamma` is finite and at least 0; ValueError otherwise.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        gamma: float = 1.5,
        **options: Unpack[LogitOptions],
    ) -> None:
        super().__init__(temperature=temperature, **options)
        self.gamma = checked_scales(gamma=gamma)["gamma"]

    @property
    def mean_at(self) -> float | None:
        """1: the probability of the target is of temperature 1, whatever T is."""
        return 1.0 if self.temperature == 1 else None

    def distance(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C] and class indices `target` [B]."""
        target = hard(target)
        t, index = self.temperature, target[:, None]
        hit = teacher.softmax(1).gather(1, index) * student.log_softmax(1).gather(1, index)
        student, teacher = (others(logits, target) / t for logits in (student, teacher))
        shares, logs = teacher.softmax(1), student.log_softmax(1)
        missed = torch.where(shares > 0, shares * logs, 0).sum(1, keepdim=True)
        return -(hit + self.gamma * t**2 * missed).mean()
