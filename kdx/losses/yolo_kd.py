"""Distillation of a detector on the same grid (Mehta & Ozturk 2018).

B: batch, A: anchors, C: classes, GH, GW: the grid's rows and columns.
"""

from torch import Tensor

from kdx.detection import coordinates, split
from kdx.losses.divergence import kl_divergence
from kdx.losses.logits import checked_temperature
from kdx.losses.shared import checked_scales, full_precision, need_teacher
from kdx.protocols import Outputs

__all__ = ["YoloKD"]


class YoloKD:
    """The objectness scaled distillation of "Object Detection at 200 Frames Per Second".

    Summed over the grid and the anchors of an image, with o the teacher's objectness in [0, 1]:
    `object_scale` (o - student's)^2 / 2; o `class_scale` T^2 KL(softmax(teacher's classes / T) ||
    softmax(student's / T)); o `coord_scale` |teacher's (sigmoid(tx), sigmoid(ty), tw, th) -
    student's|^2 / 2. So boxes and classes are learned where the teacher sees an object, and
    objectness everywhere, as in the paper. Its suppression of neighbouring boxes is left out.
    `temperature` is T > 0. ValueError for another, and for negative weights.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        temperature: float = 1.0,
        coord_scale: float = 1.0,
        object_scale: float = 1.0,
        class_scale: float = 1.0,
    ) -> None:
        self.num_classes = num_classes
        self.temperature = checked_temperature(temperature)
        self.scales = checked_scales(
            coord_scale=coord_scale, object_scale=object_scale, class_scale=class_scale
        )

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, A * (5 + C), GH, GW]; `target` is not read.

        ValueError without a teacher, or if its grid or its anchors are not the student's.
        """
        logits = need_teacher(teacher, "yolo_kd").logits
        if logits.shape != student.logits.shape:
            shapes = f"{list(student.logits.shape)}, the teacher's {list(logits.shape)}"
            same = "both must have the same grid, anchors and classes"
            raise ValueError(f"yolo_kd: the student's output is {shapes}: {same}")
        return _distance(student.logits, logits.detach(), self)


@full_precision
def _distance(student_logits: Tensor, teacher_logits: Tensor, given: YoloKD) -> Tensor:
    student, teacher = (
        split(each, num_classes=given.num_classes) for each in (student_logits, teacher_logits)
    )
    sure = teacher.objectness.sigmoid()
    scales, t = given.scales, given.temperature
    far = coordinates(teacher) - coordinates(student)
    boxes = (sure.sqrt()[..., None] * far).square().sum(-1) / 2  # 0 where far overflows unseen
    kl = kl_divergence(student.classes, teacher.classes, temperature=t, dim=-1)
    seen = (sure - student.objectness.sigmoid()).square() / 2
    total = scales["coord_scale"] * boxes + scales["class_scale"] * t**2 * sure * kl
    return (total + scales["object_scale"] * seen).flatten(1).sum(1).mean()
