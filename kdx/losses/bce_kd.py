"""Knowledge distillation of each label by itself (Yang et al. 2023). B: batch, C: labels."""

import torch
from torch import Tensor

from kdx.losses.divergence import kl_divergence
from kdx.losses.logits import checked_temperature
from kdx.losses.shared import check_classes, full_precision, need_teacher
from kdx.protocols import Outputs

__all__ = ["BCEKD"]


class BCEKD:
    """T^2 KL(Bernoulli(sigmoid(teacher / T)) || Bernoulli(sigmoid(student / T))), of each label.

    Mean over labels and batch, as `bce`. It is the multi-label logits distillation (MLD) of Yang et
    al. (ICCV 2023, section 3.2), who have T = 1, and sum over the labels: theirs is C times as
    large. The labels are not read: those that are unknown are distilled, too. `temperature` is T
    > 0, at most 1e6; ValueError otherwise. With `num_classes`, logits of another number are
    refused.
    """

    def __init__(self, *, temperature: float = 1.0, num_classes: int | None = None) -> None:
        self.temperature, self.num_classes = checked_temperature(temperature), num_classes

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar of logits [B, C]; ValueError without a teacher of the same shape."""
        own, soft = student.logits, need_teacher(teacher, "bce_kd").logits.detach()
        check_classes(own, self.num_classes, "bce_kd", on_grid="yolo_kd")
        if own.ndim != 2 or soft.shape != own.shape:
            shapes = f"the student's logits are {list(own.shape)}, the teacher's {list(soft.shape)}"
            raise ValueError(f"bce_kd: {shapes}: both must be [B, C]")
        return self._distance(own, soft)

    @full_precision
    def _distance(self, own: Tensor, soft: Tensor) -> Tensor:
        t, pairs = self.temperature, [torch.stack([z, 0 * z], 1) for z in (own, soft)]
        return t**2 * kl_divergence(pairs[0], pairs[1], temperature=t).mean()
