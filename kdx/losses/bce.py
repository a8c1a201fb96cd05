"""Binary cross-entropy with the labels of images that have several. B: batch, C: labels."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from kdx.losses.shared import check_classes, checked_scales, full_precision, per_class
from kdx.protocols import Outputs

__all__ = ["BCE", "image_bce"]


class BCE:
    """-w y log sigmoid(z) - (1 - y) log(1 - sigmoid(z)), mean over labels and batch; no teacher.

    A label y of -1 is unknown and does not count: an image's value is the mean over its known
    labels, 0 without any. Labels of mixed images are between 0 and 1.

    `pos_weight` is w, 1 by default: a number for each label, or "balanced": images without a label
    over images with it, of the training split; 1 for labels that never or always occur. ValueError
    for weights that are negative or not finite. `label_shares` [C], the shares of the training
    images that have a label, come from the run.
    """

    def __init__(
        self,
        *,
        pos_weight: Sequence[float] | Literal["balanced"] | None = None,
        num_classes: int | None = None,
        label_shares: Sequence[float] | None = None,
    ) -> None:
        if isinstance(pos_weight, str):
            if pos_weight != "balanced" or label_shares is None:
                needs = "a list of numbers, or 'balanced' for a data set of several labels an image"
                raise ValueError(f"pos_weight: {pos_weight!r}: must be {needs}")
            pos_weight = [(1 - share) / share if 0 < share < 1 else 1.0 for share in label_shares]
        for weight in pos_weight or ():
            checked_scales(pos_weight=weight)
        self.pos_weight, self.num_classes = pos_weight, num_classes

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; logits and `target` (float) [B, C], or ValueError."""
        logits = student.logits
        check_classes(logits, self.num_classes, "bce", on_grid="yolo")
        if not target.is_floating_point() or target.shape != logits.shape:
            found = f"{str(target.dtype).removeprefix('torch.')} {list(target.shape)}"
            one = "for one class an image use `cross_entropy`"
            raise ValueError(f"bce: targets {found} do not fit logits {list(logits.shape)}: {one}")
        given = self.pos_weight
        weight = None if given is None else per_class("pos_weight", given, logits, "labels")
        return image_bce(logits, target, weight).mean()


@full_precision
def image_bce(logits: Tensor, target: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Return the mean over the known labels of each image [B]; logits and `target` [B, C]."""
    goal, known = target.to(logits.dtype).clamp(min=0), target >= 0
    each = F.binary_cross_entropy_with_logits(logits, goal, pos_weight=pos_weight, reduction="none")
    return each.where(known, 0).sum(1) / known.sum(1).clamp(min=1)
