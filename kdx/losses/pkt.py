"""Probabilistic knowledge transfer (Passalis & Tefas 2018). B: batch, D: feature size."""

from typing import Literal, Unpack

from torch import Tensor

from kdx.losses.pairs import Layers, PairLoss
from kdx.losses.relations import gathered, unit_rows

__all__ = ["PKT"]

EPS = 1e-7  # inside the logarithm, as in the authors' code


class PKT(PairLoss):
    """Match the batch's similarities: t log((t + eps) / (s + eps)) over the pairs [B, B].

    t and s are the teacher's and the student's cosine kernels (cos + 1) / 2 between the samples
    of the batch, each row divided by its sum, the diagonal kept: Passalis & Tefas 2018, section 3,
    with the details of the authors' code. The features, at two module paths, may be of any shape
    [B, ...] and size: they are flattened to [B, D]. The batch is that of all processes, but only
    what is seen at once when gradients are accumulated.

    `reduction`: "mean" over the pairs, as the authors, shrinks as 1 / B. "batchmean", over samples
    of the sum over pairs, does not. ValueError for another.
    """

    def __init__(
        self, *, reduction: Literal["mean", "batchmean"] = "mean", **layers: Unpack[Layers]
    ) -> None:
        super().__init__(**layers)
        if reduction not in ("mean", "batchmean"):
            raise ValueError(f"reduction: {reduction!r} is not one of 'mean', 'batchmean'")
        self.reduction = reduction

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from features [B, ...]."""
        s, t = _similarities(student), _similarities(teacher)
        mean = (t * ((t + EPS) / (s + EPS)).log()).mean()
        return mean if self.reduction == "mean" else mean * len(t)


def _similarities(features: Tensor) -> Tensor:
    """Return the row-normalised cosine kernel [B, B] of features [B, ...]."""
    rows = unit_rows(gathered(features))
    kernel = ((rows @ rows.T + 1) / 2).clamp(min=0)  # rounding can take it below 0
    return kernel / kernel.sum(dim=1, keepdim=True)
