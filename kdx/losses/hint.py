"""Hint-based transfer (FitNets: Romero et al. 2015). B: batch, C, D: channels, T: tokens."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kdx.losses.shared import as_map, channels_of, full_precision, need_teacher
from kdx.protocols import Outputs

__all__ = ["Hint"]


class Hint(nn.Module):
    """The squared distance between a regressed student feature and a teacher feature.

    FitNets, equation 3: the guided layer `student_layer` learns the hint layer `teacher_layer`,
    any two module paths. Shapes are aligned first: see `_align`.

    `regressor`: a bias-free linear map of the student's channels to the teacher's (1 x 1
    convolution for maps), created on the first call; without it the channels must be equal.
    `reduction`: "mean" over all elements, or "sum" over a sample's elements and mean over the
    batch (Passalis & Tefas). ValueError for another.

    If features approach 1e19 in float32, the squares overflow and the loss is Inf; the gradient of
    the student stays finite.
    """

    def __init__(
        self,
        *,
        student_layer: str,
        teacher_layer: str,
        regressor: bool = True,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction: {reduction!r} is not one of 'mean', 'sum'")
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.reduction, self.wants_regressor = reduction, regressor
        self.regressor: nn.Module | None = None

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; `target` is not read.

        ValueError without a teacher, for unalignable features, and if channels change.
        """
        hint = need_teacher(teacher, "hint").features[self.teacher_layer]
        guided = student.features[self.student_layer]
        try:
            return self._distance(guided, hint)
        except ValueError as error:
            layers = f"student {self.student_layer!r}, teacher {self.teacher_layer!r}"
            raise ValueError(f"hint: {layers}: {error}") from error

    @full_precision
    def _distance(self, guided: Tensor, hint: Tensor) -> Tensor:
        guided, hint = _align(guided, hint.detach())
        squares = (self._regressed(guided, channels_of(hint)) - hint).square()
        return squares.mean() if self.reduction == "mean" else squares.flatten(1).sum(1).mean()

    def _regressed(self, guided: Tensor, out: int) -> Tensor:
        sizes = (channels_of(guided), out)
        if not self.wants_regressor:
            if sizes[0] != out:
                advice = "set `regressor: true`, or choose layers of equal width"
                raise ValueError(f"{sizes[0]} and {out} channels: {advice}")
            return guided
        if self.regressor is None:
            kind = {"bias": False, "device": guided.device, "dtype": guided.dtype}
            is_map = guided.ndim == 4
            self.regressor = nn.Conv2d(*sizes, 1, **kind) if is_map else nn.Linear(*sizes, **kind)
        made_for = tuple(reversed(next(self.regressor.parameters()).shape[:2]))
        if sizes != made_for:
            made = f"the regressor was made for {made_for[0]} and {made_for[1]}"
            raise ValueError(f"{sizes[0]} and {out} channels, but {made}")
        return self.regressor(guided)


def _align(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as vectors [B, D], as T tokens [B, T, D] or as H x W maps [B, C, H, W].

    Two vectors, and tokens of the same number, stay. Everything else becomes a map, a vector one
    of 1 x 1, tokens one of the other's shape, and each map is average-pooled to the smaller height
    and the smaller width. ValueError for any other shape, or if tokens are not such a grid.
    """
    same_positions = student.shape[1:-1] == teacher.shape[1:-1]
    if student.ndim == teacher.ndim and student.ndim in (2, 3) and same_positions:
        return student, teacher
    student, teacher = as_map(student, like=teacher), as_map(teacher, like=student)
    height, width = map(min, student.shape[2:], teacher.shape[2:])
    return _pooled(student, height, width), _pooled(teacher, height, width)


def _pooled(feature: Tensor, height: int, width: int) -> Tensor:
    same = feature.shape[2:] == (height, width)
    return feature if same else F.adaptive_avg_pool2d(feature, (height, width))
