"""Hint-based transfer (FitNets: Romero et al. 2015). B: batch."""

from typing import Literal

from torch import Tensor, nn

from kdx.losses.alignment import align, channels
from kdx.losses.checks import need_teacher
from kdx.losses.precision import full_precision
from kdx.protocols import Outputs

__all__ = ["Hint"]


class Hint(nn.Module):
    """The squared distance between a regressed student feature and a teacher feature.

    FitNets, equation 3: the guided layer `student_layer` learns the hint layer `teacher_layer`,
    any two module paths. Shapes are aligned first: see `align`.

    `regressor`: a bias-free linear map of the student's channels to the teacher's (1 x 1
    convolution for maps), created on the first call; without it the channels must be equal.
    `reduction`: "mean" over all elements, or "sum" over a sample's elements and mean over the
    batch (Passalis & Tefas). ValueError for another.

    Where features approach 1e19 in float32 the squares overflow and the loss is inf; the
    gradient of the student stays finite.
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
        self.student_layer = student_layer
        self.teacher_layer = teacher_layer
        self.reduction = reduction
        self.wants_regressor = regressor
        self.regressor: nn.Module | None = None

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; `target` is not read.

        ValueError without a teacher, for features that cannot be aligned, and for channels other
        than those of the first call.
        """
        hint = need_teacher(teacher, "hint").features[self.teacher_layer]
        return self._distance(student.features[self.student_layer], hint)

    @full_precision
    def _distance(self, guided: Tensor, hint: Tensor) -> Tensor:
        try:
            guided, hint = align(guided, hint.detach())
        except ValueError as error:
            raise ValueError(f"{self._place()}: {error}") from error
        squares = (self._regressed(guided, channels(hint)) - hint).square()
        return squares.mean() if self.reduction == "mean" else squares.flatten(1).sum(1).mean()

    def _regressed(self, guided: Tensor, out: int) -> Tensor:
        if self.wants_regressor and self.regressor is None:
            self.regressor = _linear_map(guided, out)
        sizes = (channels(guided), out)
        if self.regressor is None:
            if sizes[0] != out:
                raise ValueError(
                    f"{self._place()}: {sizes[0]} and {out} channels: set `regressor: true`, "
                    "or choose layers of equal width"
                )
            return guided
        made_for = tuple(reversed(next(self.regressor.parameters()).shape[:2]))
        if sizes != made_for:
            raise ValueError(
                f"{self._place()}: {sizes[0]} and {out} channels, "
                f"but the regressor was made for {made_for[0]} and {made_for[1]}"
            )
        return self.regressor(guided)

    def _place(self) -> str:
        return f"hint: student {self.student_layer!r}, teacher {self.teacher_layer!r}"


def _linear_map(feature: Tensor, out: int) -> nn.Module:
    kind = {"device": feature.device, "dtype": feature.dtype}
    if feature.ndim == 4:
        return nn.Conv2d(channels(feature), out, kernel_size=1, bias=False, **kind)
    return nn.Linear(channels(feature), out, bias=False, **kind)
