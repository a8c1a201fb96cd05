"""Segmentation: a class per pixel. B: batch, C: classes, H, W: height and width in pixels."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import torch
from torch import Tensor

from kdx.losses.cross_entropy import image_cross_entropy
from kdx.protocols import IGNORED, UNKNOWN, ClassMeter, ImageSource, Labelled, Meter
from kdx.tasks.by_class import ConfusionMeter, class_ratio
from kdx.tasks.classification import shape_of
from kdx.tasks.masks import Color, draw_masks, palette
from kdx.tasks.sums import Confusion, Mean


class Segmentation:
    """A class per pixel: networks output logits [B, C, H, W], as large as the images.

    Targets are classes [B, H, W], -100 if a pixel does not count. `colors` are RGB in 0..255; None
    chooses some. ValueError for fewer than two classes, equal names, other numbers of colours.
    """

    metrics: Mapping[str, str] = {
        "miou": "mIoU",
        "mrec": "mean recall",
        "mprec": "mean precision",
        "accuracy": "pixel accuracy",
    }
    spatial = True

    def __init__(self, *, classes: Sequence[str], colors: Sequence[Color] | None = None) -> None:
        if len(classes) < 2 or len(set(classes)) < len(classes):
            raise ValueError(f"classes: {list(classes)}: at least two, with different names")
        if colors is not None and len(colors) != len(classes):
            raise ValueError(f"colors: {len(colors)} colors for {len(classes)} classes")
        self.classes = classes
        self.colors = colors or palette(len(classes))
        self.facts: Mapping[str, Any] = {"num_classes": len(classes)}
        self.chance = 1 / len(classes)  # the most of one class everywhere, where all occur

    def check(self, output: object, images: Tensor) -> None:
        """Raise ValueError unless `output` is logits [B, C, H, W] of the images' size."""
        wanted = [len(images), len(self.classes), *images.shape[2:]]
        if not isinstance(output, Tensor) or list(output.shape) != wanted:
            raise ValueError(
                f"its output for images {list(images.shape)} is {shape_of(output)}, not logits "
                f"{wanted}: one for each of the data's {len(self.classes)} classes at every pixel"
            )

    def check_source(self, source: ImageSource) -> None:
        """Raise ValueError for samples that are a class alone, and for a table of other classes."""
        if isinstance(source, Labelled):
            found = f"{type(source).__name__} has a class for each image, not for each pixel"
            advice = "use kdx.data.MaskImages for segmentation"
            raise ValueError(f"{source.name(0)}: {found}: {advice}")
        table, last = getattr(source, "table", None), len(self.classes) - 1
        for number, kind in enumerate(table.tolist() if isinstance(table, Tensor) else ()):
            if kind not in (IGNORED, UNKNOWN) and not 0 <= kind <= last:
                wanted = f"0 to {last}, {IGNORED} (pixels do not count), {UNKNOWN} (no mask has it)"
                raise ValueError(f"table[{number}]: {kind} is not a class: {wanted}")

    def meter(self, device: torch.device) -> Meter:
        """Return a meter of `scores`, and of loss (cross-entropy, as the loss of that name)."""
        return _Meter(self, device)

    def class_meter(self, device: torch.device) -> ClassMeter:
        """Return a meter of IoU, recall (a class's pixel accuracy), precision, and confusion."""
        how = {"decide": self.decide, "metrics": ("iou", "recall", "precision")}
        return ConfusionMeter(len(self.classes), device, **how)

    def decide(self, output: Tensor) -> Tensor:
        """Return the likeliest class of each pixel [B, H, W]."""
        return output.max(1).indices  # on the CPU twice as fast as argmax

    def draw(self, image: Tensor, target: Tensor, output: Tensor) -> Tensor:
        """Draw image, truth [H, W] and prediction [C, H, W] side by side, above the classes."""
        masks = {"truth": target, "prediction": self.decide(output[None])[0]}
        return draw_masks(image, masks, classes=self.classes, colors=self.colors)


def scores(confusion: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return the metrics of a confusion matrix [C, C] of pixels, truth by row, each in [0, 1].

    Of a class, IoU is TP / (TP + FP + FN), recall TP / (TP + FN) and precision TP / (TP + FP);
    miou, mrec and mprec are means over the classes. As in Cityscapes' evaluation (Cordts et al.
    2016), 0 / 0 is left out, except for the precision of a class that is true but never predicted:
    it is 0, so that leaving a class out does not pay. accuracy is the share of the pixels that are
    right; iou/<class> is there for each class that has one. Without pixels all are 0.
    """
    confusion = confusion.cpu()
    found = {name: class_ratio(confusion, name) for name in ("iou", "recall", "precision")}
    miou, mrec, mprec = (float(ratio.nanmean().nan_to_num()) for ratio in found.values())
    accuracy = int(confusion.trace()) / max(1, int(confusion.sum()))
    iou = zip(classes, found["iou"].tolist(), strict=True)
    each = {f"iou/{name}": share for name, share in iou if not isnan(share)}
    return {"miou": miou, "mrec": mrec, "mprec": mprec, "accuracy": accuracy, **each}


class _Meter:
    """One confusion matrix of all pixels that count, over all processes."""

    def __init__(self, task: Segmentation, device: torch.device) -> None:
        self.task = task
        self.confusion = Confusion(len(task.classes), device)
        self.loss = Mean(device)

    def update(self, output: Tensor, target: Tensor) -> None:
        self.confusion.update(self.task.decide(output), target)
        self.loss.update(image_cross_entropy(output, target))

    def compute(self) -> dict[str, float]:
        found = scores(self.confusion.compute(), self.task.classes)
        return {**found, "loss": self.loss.compute()}
