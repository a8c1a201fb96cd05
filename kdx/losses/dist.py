"""DIST: distillation from a stronger teacher (Huang et al. 2022). B: batch, C: classes."""

from typing import Unpack

import torch
from torch import Tensor

from kdx.losses.logits import LogitLoss, LogitOptions
from kdx.losses.relations import gathered
from kdx.losses.shared import checked_scales

__all__ = ["DIST"]

EPS = 1e-8  # added to the product of the lengths, as by the authors


class DIST(LogitLoss):
    """T^2 (beta (1 - r of the rows) + gamma (1 - r of the columns)), means over rows and columns.

    r is Pearson's correlation of the student's and the teacher's probabilities [B, C], softmax at
    `temperature` T: of each sample (inter-class, equation 7) and of each class over the samples
    (intra-class, equation 8). T^2 is in the authors' code. For pixels, each is a row. A row or
    column that does not vary counts as r = 0. The batch is that of all processes, but only what is
    seen at once when gradients are accumulated. `beta` and `gamma` are finite and at least 0;
    ValueError otherwise. Of two classes the rows' r is 1 or -1, and only the columns teach.
    """

    dense = True

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        **options: Unpack[LogitOptions],
    ) -> None:
        super().__init__(temperature=temperature, **options)
        self.scales = checked_scales(beta=beta, gamma=gamma)

    def distance(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C, ...]."""
        rows = [
            gathered((each.movedim(1, -1).flatten(0, -2) / self.temperature).softmax(1))
            for each in (student, teacher)
        ]
        inter, intra = (1 - _correlation(*rows, dim=dim).mean() for dim in (1, 0))
        return self.temperature**2 * (self.scales["beta"] * inter + self.scales["gamma"] * intra)


def _correlation(first: Tensor, second: Tensor, *, dim: int) -> Tensor:
    """Return Pearson's r along `dim`; 0, without a gradient, where either varies by rounding."""
    rounding = 4 * torch.finfo(first.dtype).eps
    centred, lengths, varies = [], [], []
    for values in (first, second):
        centred.append(values - values.mean(dim, keepdim=True))
        lengths.append(torch.linalg.vector_norm(centred[-1], dim=dim))
        varies.append(lengths[-1] > rounding * torch.linalg.vector_norm(values, dim=dim))
    both = varies[0] & varies[1]
    scale = torch.where(both, lengths[0] * lengths[1] + EPS, 1.0)
    return torch.where(both, (centred[0] * centred[1]).sum(dim) / scale, 0.0)
