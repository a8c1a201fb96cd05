"""Cross-entropy with the labels, of images or of their pixels. B: batch, C: classes."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor
from torch.nn import functional as F

from kdx.losses.checks import check_classes
from kdx.losses.precision import full_precision
from kdx.protocols import IGNORED, Outputs

__all__ = ["CrossEntropy", "image_cross_entropy"]


class CrossEntropy:
    """The mean over the batch of -log softmax(student)[target]; it needs no teacher.

    With a target for each pixel, an image gives the mean over its pixels that count, 0 where none
    does. So every image weighs the same, and a batch may be seen in parts; torch's own mean is
    over the pixels of the whole batch, and differs where images ignore different numbers of them.

    `label_smoothing`, in [0, 1), is the probability that is spread evenly over all classes
    (Szegedy et al. 2016, section 7). `class_weights` [C] multiply what a pixel or an image gives,
    by its class; unlike torch's, the mean is not divided by them. ValueError for a smoothing or
    weights out of range. With `num_classes` logits of another number of channels are refused.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        num_classes: int | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: {label_smoothing} is not in [0, 1)")
        if bad := [w for w in class_weights or () if not (isfinite(w) and w >= 0)]:
            raise ValueError(f"class_weights: {bad[0]} is not a finite number of at least 0")
        self.label_smoothing = label_smoothing
        if class_weights is not None and not any(class_weights):
            raise ValueError("class_weights: one of them must be above 0")
        self.class_weights = class_weights
        self.num_classes = num_classes

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; logits [B, C, ...], `target` [B, ...] class indices, or -100.

        ValueError where the two do not fit, or where C is not what it should be.
        """
        logits = student.logits
        check_classes(logits, self.num_classes, "cross_entropy", on_grid="yolo")
        if target.shape != (len(logits), *logits.shape[2:]):
            raise ValueError(
                f"cross_entropy: targets {list(target.shape)} do not fit logits "
                f"{list(logits.shape)}: there must be one for each position"
            )
        each = image_cross_entropy(
            logits, target, weight=self._weights(logits), label_smoothing=self.label_smoothing
        )
        return each.mean()

    def _weights(self, logits: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        if len(self.class_weights) != logits.shape[1]:
            raise ValueError(
                f"class_weights: {len(self.class_weights)} for {logits.shape[1]} classes"
            )
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return torch.tensor(self.class_weights, dtype=dtype, device=logits.device)


@full_precision
def image_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return [B], what each image gives; logits [B, C, ...], `target` [B, ...]."""
    values = F.cross_entropy(
        logits,
        target,
        weight=weight,
        label_smoothing=label_smoothing,
        reduction="none",
        ignore_index=IGNORED,
    )
    counted = (target != IGNORED).view(len(target), -1).sum(1)
    return values.view(len(target), -1).sum(1) / counted.clamp(min=1)
