"""Cross-entropy with the labels, of images or of their pixels. B: batch, C: classes."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from kdx.losses.shared import check_classes, checked_scales, full_precision, per_class
from kdx.protocols import IGNORED, Outputs

__all__ = ["CrossEntropy", "image_cross_entropy"]


class CrossEntropy:
    """The mean over the batch of -log softmax(student)[target]; it needs no teacher.

    With a target for each pixel, an image's value is the mean over its pixels that count, 0 if none
    does: every image weighs the same, and a batch may be seen in parts. torch's own mean is over
    the pixels of the whole batch.

    Targets of mixed images are probabilities y [B, C]: the sum over classes of -y log softmax.

    `label_smoothing`, in [0, 1), is the probability that is spread evenly over all classes
    (Szegedy et al. 2016, section 7). `class_weights` [C] multiply the term of each class in the
    value of a pixel or an image: smoothed and mixed ones have several; unlike torch's, the mean is
    not divided by them. ValueError for a smoothing or weights out of range. With `num_classes`,
    logits of another number of channels are refused.

    "balanced" weights are n / (C * count) (King & Zeng 2001; scikit-learn's), by the `class_counts`
    of the training images, C classes of which are in n of them: their mean over the images is 1. A
    class without images weighs 0.

    "effective" weights are (1 - beta) / (1 - beta^count), the inverse of the effective number of
    samples (Cui et al. 2019, equation 2), scaled to a mean of 1 over these classes; `beta` is in
    [0, 1): 0 gives equal weights, almost 1 the inverse counts. ValueError for both without counts:
    for other tasks than classification.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | Literal["balanced", "effective"] | None = None,
        beta: float = 0.999,
        num_classes: int | None = None,
        class_counts: Sequence[int] | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: {label_smoothing} is not in [0, 1)")
        if not 0 <= beta < 1:
            raise ValueError(f"beta: {beta} is not in [0, 1)")
        if isinstance(class_weights, str):
            class_weights = _by_counts(class_weights, class_counts, beta)
        for weight in class_weights or ():
            checked_scales(class_weights=weight)
        if class_weights is not None and not any(class_weights):
            raise ValueError("class_weights: at least one must be above 0")
        self.label_smoothing, self.num_classes = label_smoothing, num_classes
        self.class_weights = class_weights

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; logits [B, C, ...], `target` [B, ...] class indices, or -100.

        Or float `target` [B, C, ...], probabilities. ValueError if the two do not fit, or if C is
        not `num_classes`.
        """
        logits = student.logits
        check_classes(logits, self.num_classes, "cross_entropy", on_grid="yolo")
        soft = target.is_floating_point()
        if target.shape != (logits.shape if soft else (len(logits), *logits.shape[2:])):
            found = f"targets {list(target.shape)} do not fit logits {list(logits.shape)}"
            raise ValueError(f"cross_entropy: {found}: each position needs one")
        given = self.class_weights
        weight = None if given is None else per_class("class_weights", given, logits)
        smoothing = self.label_smoothing
        return image_cross_entropy(logits, target, weight=weight, label_smoothing=smoothing).mean()


def _by_counts(how: str, counts: Sequence[int] | None, beta: float) -> list[float]:
    if counts is None:
        needs = f"{how!r} needs images with one label each, which can be counted"
        raise ValueError(f"class_weights: {needs}: give a list of numbers")
    classes = sum(count > 0 for count in counts)
    if how == "balanced":
        return [sum(counts) / (classes * count) if count else 0.0 for count in counts]
    weights = [(1 - beta) / (1 - beta**count) if count else 0.0 for count in counts]
    return [weight * classes / sum(weights) for weight in weights]


@full_precision
def image_cross_entropy(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    """Return the cross-entropy of each image [B]; logits [B, C, ...], `target` [B, ...].

    Or `target` [B, C, ...], probabilities. `options` are torch's: `weight`, `label_smoothing`.
    """
    if target.is_floating_point():
        values = F.cross_entropy(logits, target.to(logits.dtype), reduction="none", **options)
        return values.view(len(target), -1).mean(1)
    values = F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORED, **options)
    counted = (target != IGNORED).view(len(target), -1).sum(1)
    return values.view(len(target), -1).sum(1) / counted.clamp(min=1)
