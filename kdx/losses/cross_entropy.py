"""Cross-entropy with the labels. B: batch, C: classes."""

from torch import Tensor
from torch.nn import functional as F

from kdx.losses.precision import full_precision
from kdx.protocols import Outputs

__all__ = ["CrossEntropy"]


class CrossEntropy:
    """The mean over the batch of -log softmax(student)[target]; it needs no teacher.

    `label_smoothing`, in [0, 1), is the probability that is spread evenly over all classes
    (Szegedy et al. 2016, section 7); ValueError outside of it.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: {label_smoothing} is not in [0, 1)")
        self.label_smoothing = label_smoothing

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; logits [B, C], `target` [B] class indices."""
        return _cross_entropy(student.logits, target, label_smoothing=self.label_smoothing)


_cross_entropy = full_precision(F.cross_entropy)
