"""Knowledge distillation (Hinton et al. 2015), of images or of pixels. B: batch, C: classes."""

from typing import Unpack

from torch import Tensor

from kdx.losses.divergence import kl_divergence
from kdx.losses.logits import LogitLoss, LogitOptions

__all__ = ["KD"]


class KD(LogitLoss):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch, and its pixels.

    From section 2 of Hinton et al.: T^2 keeps the gradient's size if T changes. `temperature` is
    T > 0, at most 1e6; ValueError otherwise. The labels are not read: pixels that they ignore are
    distilled, too. `standardize`: of standardized logits (Sun et al. 2024, with T 2 and weight 9).
    With `num_classes`, logits of another number of channels are refused.
    """

    dense = True

    def __init__(self, *, temperature: float = 4.0, **options: Unpack[LogitOptions]) -> None:
        super().__init__(temperature=temperature, **options)

    def distance(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C, ...]."""
        t = self.temperature
        return t**2 * kl_divergence(student, teacher, temperature=t).mean()
