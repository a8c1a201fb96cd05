"""Correlation congruence (Peng et al. 2019). B: batch, D: feature size."""

from math import exp, factorial
from typing import Unpack

import torch
from torch import Tensor

from kdx.losses.pairs import Layers, PairLoss
from kdx.losses.relations import gathered, unit_rows
from kdx.losses.shared import checked_scales

__all__ = ["CC"]


class CC(PairLoss):
    """The mean squared difference of the kernels K [B, B] of the two networks' features.

    K_ij = sum over p = 0..order of exp(-2 gamma) (2 gamma)^p / p! (f_i . f_j)^p, the Taylor series
    of a Gaussian kernel (equation 8) of features f that are flattened and scaled to length 1.
    Features may be of any shapes. The batch is that of all processes, but only what is seen at once
    when gradients are accumulated. `gamma` is finite and at least 0, `order` in 1..20; ValueError
    otherwise.
    """

    def __init__(self, *, gamma: float = 0.4, order: int = 2, **layers: Unpack[Layers]) -> None:
        super().__init__(**layers)
        g = 2 * checked_scales(gamma=gamma)["gamma"]
        if not 1 <= order <= 20:
            raise ValueError(f"order: {order} is not in 1..20")
        self.factors = [exp(-g) * g**p / factorial(p) for p in range(order + 1)]

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from features [B, ...]."""
        return (self._kernel(student) - self._kernel(teacher)).square().mean()

    def _kernel(self, features: Tensor) -> Tensor:
        rows = unit_rows(gathered(features))
        cosines = rows @ rows.T
        return torch.stack([f * cosines**p for p, f in enumerate(self.factors)]).sum(0)
