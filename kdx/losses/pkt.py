"""Probabilistic knowledge transfer (Passalis & Tefas 2018). B: batch, D: feature size."""

from typing import Literal

import torch
from torch import Tensor

from kdx.losses.shared import full_precision, need_teacher
from kdx.protocols import Outputs

__all__ = ["PKT"]

EPS = 1e-7  # inside the logarithm, as in the authors' code
SILENT = 1e-12  # a row whose largest magnitude is below this counts as zero


class PKT:
    """Match the batch's similarities: t log((t + eps) / (s + eps)) over the pairs [B, B].

    t and s are the teacher's and the student's cosine kernels (cos + 1) / 2 between the samples
    of the batch, each row divided by its sum, the diagonal kept: Passalis & Tefas 2018, section 3,
    with the details of the authors' code. The features, at two module paths, may be of any shape
    [B, ...] and size: they are flattened to [B, D].

    `reduction`: "mean" over the pairs, as the authors, shrinks as 1 / B, of what one process sees
    at once. "batchmean", over samples of the sum over pairs, does not. ValueError for another.
    """

    def __init__(
        self,
        *,
        student_layer: str,
        teacher_layer: str,
        reduction: Literal["mean", "batchmean"] = "mean",
    ) -> None:
        if reduction not in ("mean", "batchmean"):
            raise ValueError(f"reduction: {reduction!r} is not one of 'mean', 'batchmean'")
        self.reduction = reduction
        self.student_layer, self.teacher_layer = student_layer, teacher_layer

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; `target` is not read. ValueError without a teacher."""
        feature = need_teacher(teacher, "pkt").features[self.teacher_layer]
        mean = _divergence(student.features[self.student_layer], feature)
        return mean if self.reduction == "mean" else mean * len(feature)


@full_precision
def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = _similarities(student), _similarities(teacher.detach())
    return (t * ((t + EPS) / (s + EPS)).log()).mean()


def _similarities(features: Tensor) -> Tensor:
    """Return the row-normalised cosine kernel [B, B] of features [B, ...]."""
    rows = _unit_rows(features.flatten(1))
    kernel = ((rows @ rows.T + 1) / 2).clamp(min=0)  # rounding can take it below 0
    return kernel / kernel.sum(dim=1, keepdim=True)


def _unit_rows(rows: Tensor) -> Tensor:
    """Scale each row of [B, D] to length 1; rows of zeros stay, with a finite gradient."""
    # The cosine does not see this scale, a constant to the gradient that keeps squares finite.
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    rows = rows / torch.where(largest > SILENT, largest, 1.0)
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1)
