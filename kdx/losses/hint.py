"""Hint-based transfer (FitNets: Romero et al. 2015). B: batch, C, D: channels, T: tokens."""

from functools import partial
from typing import Literal, Unpack

from torch import Tensor, nn

from kdx.losses.align import channels_of, maps_of_one_size, pointwise
from kdx.losses.pairs import Layers, PairLoss

__all__ = ["Hint"]


class Hint(PairLoss):
    """The squared distance between a regressed student feature and a teacher feature.

    FitNets, equation 3: the guided layer learns the hint layer, any two module paths. Shapes are
    aligned first: see `_align`.

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
        regressor: bool = True,
        reduction: Literal["mean", "sum"] = "mean",
        **layers: Unpack[Layers],
    ) -> None:
        super().__init__(**layers)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction: {reduction!r} is not one of 'mean', 'sum'")
        self.reduction, self.wants_regressor = reduction, regressor

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar; ValueError for unalignable features, and if channels change."""
        guided, hint = _align(student, teacher)
        squares = (self._regressed(guided, channels_of(hint), index) - hint).square()
        return squares.mean() if self.reduction == "mean" else squares.flatten(1).sum(1).mean()

    def _regressed(self, guided: Tensor, out: int, index: int) -> Tensor:
        inside = channels_of(guided)
        if self.wants_regressor:
            make = pointwise if guided.ndim == 4 else partial(nn.Linear, bias=False)
            return self.connector(index, (inside, out), guided, make)(guided)
        if inside != out:
            advice = "set `regressor: true`, or choose layers of equal width"
            raise ValueError(f"{inside} and {out} channels: {advice}")
        return guided


def _align(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as vectors [B, D], as T tokens [B, T, D] or as H x W maps [B, C, H, W].

    Two vectors, and tokens of the same number, stay. Everything else becomes a map, average-pooled
    to the smaller height and the smaller width: see `kdx.losses.align`.
    """
    same_positions = student.shape[1:-1] == teacher.shape[1:-1]
    if student.ndim == teacher.ndim and student.ndim in (2, 3) and same_positions:
        return student, teacher
    return maps_of_one_size(student, teacher)
