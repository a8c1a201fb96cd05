"""Decoupled knowledge distillation (Zhao et al. 2022). B: batch, C: classes."""

from typing import Unpack

import torch
from torch import Tensor

from kdx.losses.divergence import kl_divergence
from kdx.losses.logits import LogitLoss, LogitOptions, others
from kdx.losses.shared import checked_scales, hard

__all__ = ["DKD"]


class DKD(LogitLoss):
    """T^2 (alpha TCKD + beta NCKD), mean over the batch (equation 7).

    TCKD is the KL divergence of the teacher's and the student's probabilities of the target class
    and of all others together; NCKD that of the softmax over the others. With two classes NCKD is
    0. Of a mixed image the target is the label with the larger share. `alpha` and `beta` are finite
    and at least 0; ValueError otherwise. The authors choose beta from 2 to 8 by the pair of
    networks, and raise the loss's weight over the first 20 epochs.
    """

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        **options: Unpack[LogitOptions],
    ) -> None:
        super().__init__(temperature=temperature, **options)
        self.scales = checked_scales(alpha=alpha, beta=beta)

    def distance(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C] and class indices `target` [B]."""
        target = hard(target)
        t, both = self.temperature, (student, teacher)
        rest = [others(logits, target) for logits in both]
        binary = [
            torch.cat([z.gather(1, target[:, None]), t * (o / t).logsumexp(1, keepdim=True)], 1)
            for z, o in zip(both, rest, strict=True)
        ]
        tckd, nckd = (kl_divergence(*each, temperature=t).mean() for each in (binary, rest))
        return t**2 * (self.scales["alpha"] * tckd + self.scales["beta"] * nckd)
