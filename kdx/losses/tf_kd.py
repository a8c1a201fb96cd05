"""Teacher-free knowledge distillation (Yuan et al. 2020). B: batch, C: classes."""

import torch
from torch import Tensor

from kdx.losses.divergence import kl_divergence
from kdx.losses.logits import checked_temperature
from kdx.losses.shared import check_classes, full_precision, hard
from kdx.protocols import Outputs

__all__ = ["TfKD"]


class TfKD:
    """KL(softmax(d / T) || softmax(student)), mean over the batch; it needs no teacher.

    d is `correct` for the label and (1 - correct) / (C - 1) for each other class: as in the
    authors' code (Tf-KD_reg), these probabilities are softened at `temperature` T as if they were
    logits, and the student is not softened. Of a mixed image the label is the one with the larger
    share. Their mean is over batch and classes (nn.KLDivLoss): their weight is C times ours.

    ValueError for T outside (0, 1e6], and for `correct` outside (0, 1). With `num_classes`, logits
    of another number of classes are refused.
    """

    def __init__(
        self, *, temperature: float = 20.0, correct: float = 0.99, num_classes: int | None = None
    ) -> None:
        self.temperature = checked_temperature(temperature)
        if not 0 < correct < 1:
            raise ValueError(f"correct: {correct} is not between 0 and 1")
        self.correct, self.num_classes = correct, num_classes

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar of logits [B, C]; `target` [B] are class indices.

        ValueError for logits of other shapes, and for fewer than two classes.
        """
        logits = student.logits
        check_classes(logits, self.num_classes, "tf_kd", on_grid="yolo")
        if logits.ndim != 2 or logits.shape[1] < 2:
            shape = list(logits.shape)
            raise ValueError(f"tf_kd: needs logits [B, C] of two classes or more: {shape}")
        return _divergence(logits, hard(target), self.temperature, self.correct)


@full_precision
def _divergence(logits: Tensor, target: Tensor, temperature: float, correct: float) -> Tensor:
    rest = (1 - correct) / (logits.shape[1] - 1)
    made = torch.full_like(logits, rest).scatter(1, target[:, None], correct) / temperature
    return kl_divergence(logits, made, temperature=1.0).mean()
