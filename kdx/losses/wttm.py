"""Transformed teacher matching (Zheng & Yang 2024). B: batch, C: classes."""

from typing import Unpack

from torch import Tensor

from kdx.losses.divergence import kl_divergence
from kdx.losses.logits import LogitLoss, LogitOptions

__all__ = ["WTTM", "ttm"]


class WTTM(LogitLoss):
    """U KL(q || p_s), mean over the batch: q = p_t^gamma / U with U = sum over C of p_t^gamma.

    p are the softmaxes at temperature 1: the teacher is softened by a power, the student is not,
    and no T^2 is needed (equations 13 and 17). `gamma`, in (0, 1], is 1 / T; ValueError otherwise.
    `weighted: false` leaves the factor U out, as `ttm` does.
    """

    def __init__(
        self, *, gamma: float = 0.1, weighted: bool = True, **options: Unpack[LogitOptions]
    ) -> None:
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma: {gamma} is not in (0, 1]")
        super().__init__(temperature=1.0, **options)
        self.gamma, self.weighted = gamma, weighted

    def distance(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C]."""
        values = kl_divergence(student, self.gamma * teacher, temperature=1.0)
        if self.weighted:
            values = (self.gamma * teacher.log_softmax(1)).logsumexp(1).exp() * values
        return values.mean()


def ttm(*, gamma: float = 0.1, **options: Unpack[LogitOptions]) -> WTTM:
    """KL(q || p_s), mean over the batch, with q proportional to p_t^gamma: WTTM without U."""
    return WTTM(gamma=gamma, weighted=False, **options)
