"""Knowledge distillation (Hinton et al. 2015), of images or of pixels. B: batch, C: classes."""

from torch import Tensor

from kdx.losses.divergence import kl_divergence
from kdx.losses.shared import check_classes, need_teacher
from kdx.protocols import Outputs

__all__ = ["KD"]

LARGEST = 1e6  # softer than any that is used


class KD:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch, and its pixels.

    From section 2 of Hinton et al.: T^2 keeps the gradient's size if T changes. `temperature` is
    T > 0, at most 1e6; ValueError otherwise. The labels are not read: pixels that they ignore are
    distilled, too. With `num_classes`, logits of another number of channels are refused.
    """

    def __init__(self, *, temperature: float = 4.0, num_classes: int | None = None) -> None:
        if not 0 < temperature <= LARGEST:
            allowed = f"a finite number above 0, at most {LARGEST:g}"
            raise ValueError(f"temperature: {temperature} is not {allowed}")
        self.temperature, self.num_classes = temperature, num_classes

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C, ...]; `target` is not read.

        ValueError without a teacher of the same shape, and if C is not `num_classes`.
        """
        soft = need_teacher(teacher, "kd").logits
        check_classes(student.logits, self.num_classes, "kd", on_grid="yolo_kd")
        if soft.shape != student.logits.shape:
            shapes = f"{tuple(student.logits.shape)}, the teacher's {tuple(soft.shape)}"
            same = "both networks must have the same classes, height and width"
            raise ValueError(f"kd: the student's logits are {shapes}: {same}")
        kl = kl_divergence(student.logits, soft, temperature=self.temperature)
        return self.temperature**2 * kl.mean()
