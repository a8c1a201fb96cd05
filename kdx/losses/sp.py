"""Similarity-preserving distillation (Tung & Mori 2019). B: batch, D: feature size."""

from torch import Tensor

from kdx.losses.pairs import PairLoss
from kdx.losses.relations import gathered, scaled, unit_rows

__all__ = ["SP"]


class SP(PairLoss):
    """||G_t - G_s||_F^2 / B^2, where G = V V^T has its rows scaled to length 1 (equation 4).

    V are the features of the batch, flattened to [B, D], of any shapes in the two networks. The
    batch is that of all processes, but only what is seen at once when gradients are accumulated.
    The authors use weight 3000.
    """

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from features [B, ...]."""
        return (_similarities(student) - _similarities(teacher)).square().mean()


def _similarities(features: Tensor) -> Tensor:
    rows = scaled(gathered(features))
    return unit_rows(rows @ rows.T)
