"""Transformed teacher matching (Zheng & Yang 2024). B: batch, C: classes."""

from typing import Unpack

from torch import Tensor

from kdx.losses.divergence import kl_divergence
from kdx.losses.logits import LogitLoss, LogitOptions

__all__ = ["TTM", "WTTM"]


class TTM(LogitLoss):
    """KL(q || p_s), mean over the batch: q is p_t^gamma, divided by its sum over the classes.

    p are the softmaxes at temperature 1: the teacher is softened by a power, the student is not,
    and no T^2 is needed (equation 13). `gamma`, in (0, 1], is 1 / T; ValueError otherwise.
    """

    def __init__(self, *, gamma: float = 0.1, **options: Unpack[LogitOptions]) -> None:
        super().__init__(temperature=1.0, **options)
        self.gamma = _checked(gamma)

    def distance(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C]."""
        return kl_divergence(student, self.gamma * teacher, temperature=1.0).mean()


class WTTM(TTM):
    """TTM with each sample weighted by U, the sum over the classes of p_t^gamma (equation 17).

    U is larger where the teacher is less sure. `gamma`, in (0, 1], is 1 / T; ValueError otherwise.
    """

    def distance(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C]."""
        values = kl_divergence(student, self.gamma * teacher, temperature=1.0)
        return ((self.gamma * teacher.log_softmax(1)).logsumexp(1).exp() * values).mean()


def _checked(gamma: float) -> float:
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma: {gamma} is not in (0, 1]")
    return gamma
