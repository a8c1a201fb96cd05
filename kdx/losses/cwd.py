"""Channel-wise distillation (Shu et al. 2021). B: batch, C: channels, N: positions."""

from typing import Unpack

from torch import Tensor

from kdx.losses.align import pointwise, with_positions
from kdx.losses.divergence import kl_divergence
from kdx.losses.logits import checked_temperature
from kdx.losses.pairs import LOGITS, Layers, PairLoss

__all__ = ["CWD"]


class CWD(PairLoss):
    """tau^2 / C sum over the channels of KL(teacher || student), mean over the batch.

    Each channel's softmax is over its positions, at temperature tau (equations 4 and 5). Without
    layers it compares the logits of dense tasks, [B, C, H, W]. Maps of different sizes are
    average-pooled to the smaller one first; a student's map of other channels goes through a
    learned 1 x 1 convolution. `temperature`, in (0, 1e6], is by default 4 for features, 1 for
    logits; ValueError otherwise.
    """

    def __init__(self, *, temperature: float | None = None, **layers: Unpack[Layers]) -> None:
        super().__init__(**(layers or {"layers": [LOGITS]}))
        default = 4.0 if layers else 1.0
        self.temperature = checked_temperature(default if temperature is None else temperature)

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from maps or tokens; ValueError for one position, as of vectors."""
        student, teacher = with_positions(student, teacher)
        widths = student.shape[1], teacher.shape[1]
        if widths[0] != widths[1]:
            student = self.connector(index, widths, student, pointwise)(student)
        student, teacher = (each.flatten(2) for each in (student, teacher))
        values = kl_divergence(student, teacher, temperature=self.temperature, dim=2)
        return self.temperature**2 * values.mean()
