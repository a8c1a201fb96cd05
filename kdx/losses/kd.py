"""Knowledge distillation (Hinton, Vinyals, Dean 2015). B: batch, C: classes."""

from torch import Tensor
from torch.nn import functional as F

from kdx.losses.checks import need_teacher
from kdx.losses.precision import full_precision
from kdx.protocols import Outputs

__all__ = ["KD"]

LARGEST = 1e6  # softer than any difference that float32 keeps


class KD:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

    From section 2 of Hinton et al.: T^2 keeps the gradient's size when T changes. `temperature`
    is T > 0, at most 1e6; ValueError otherwise.
    """

    def __init__(self, *, temperature: float = 4.0) -> None:
        if not 0 < temperature <= LARGEST:
            raise ValueError(
                f"temperature: {temperature} is not a finite number above 0, at most {LARGEST:g}"
            )
        self.temperature = temperature

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar from logits [B, C]; `target` is not read.

        ValueError without a teacher, or where its classes are not the student's.
        """
        soft = need_teacher(teacher, "kd").logits
        if soft.shape != student.logits.shape:
            raise ValueError(
                f"kd: the student's logits are {tuple(student.logits.shape)}, the teacher's "
                f"{tuple(soft.shape)}: both networks must have the same classes"
            )
        return _divergence(student.logits, soft, temperature=self.temperature)


@full_precision
def _divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher.detach() / temperature, dim=1)
    kl = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * kl
