"""Relational knowledge distillation (Park et al. 2019). B: batch, D: feature size."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from kdx.losses.pairs import Layers, PairLoss
from kdx.losses.relations import gathered, scaled, unit_rows
from kdx.losses.shared import checked_scales

__all__ = ["RKD"]

MOST = 2**28  # numbers in the largest tensor of the angles: 1 GiB in float32


class RKD(PairLoss):
    """distance * L_distance + angle * L_angle between the samples of a batch.

    L_distance compares ||v_i - v_j||, divided by its mean over the pairs that differ (equations 5
    and 6); L_angle the cosines of the angles at v_j of the triplets i, j, k (equations 8 and 9).
    Both are Huber losses with delta 1, mean over all B^2 pairs or B^3 triplets, as in the authors'
    code. Features may be of any shapes. The batch is that of all processes, but only what is seen
    at once when gradients are accumulated.

    The weights `distance` and `angle` are finite and at least 0, not both 0; ValueError otherwise.
    Angles hold tensors of B^2 D and B^3 numbers, at most 2^28: `angle: 0` leaves them out.
    """

    def __init__(
        self, *, distance: float = 25.0, angle: float = 50.0, **layers: Unpack[Layers]
    ) -> None:
        super().__init__(**layers)
        scales = checked_scales(distance=distance, angle=angle)
        if not any(scales.values()):
            raise ValueError("distance, angle: both are 0: nothing would be learned")
        self.relations = ((distance, _distances), (angle, _angles))

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from features [B, ...]; ValueError for too many angles."""
        student, teacher = (scaled(gathered(features)) for features in (student, teacher))
        values = [
            weight * F.huber_loss(relation(student), relation(teacher))
            for weight, relation in self.relations
            if weight
        ]
        return torch.stack(values).sum()


def _distances(rows: Tensor) -> Tensor:
    """Return the distances [B, B] between rows [B, D], divided by the mean of those above 0."""
    mode = "donot_use_mm_for_euclid_dist"  # exact, and its gradient is 0 at 0
    distances = torch.cdist(rows, rows, compute_mode=mode)
    apart = distances > 0
    return distances / (distances.sum() / apart.sum()) if apart.any() else distances


def _angles(rows: Tensor) -> Tensor:
    """Return the cosines [B, B, B] between v_i - v_j and v_k - v_j, by j, i, k; 0 if one is 0."""
    count, size = rows.shape
    if (numbers := count**2 * max(count, size)) > MOST:
        raise ValueError(
            f"angle: {count} samples of {size} features need a tensor of {numbers:,} numbers, and "
            f"the limit is {MOST:,}: set `angle: 0`, a smaller batch or a later layer"
        )
    towards = unit_rows(rows[None] - rows[:, None])
    return towards @ towards.transpose(1, 2)
