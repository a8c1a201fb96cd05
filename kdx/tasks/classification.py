"""Classification of images. B: batch, C: classes."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.protocols import ClassMeter, ImageSource, Meter
from kdx.tasks.by_class import ConfusionMeter
from kdx.tasks.sums import Mean

FIRST = 5  # the likeliest classes, among which top5 wants the right one
MOST = 4096  # classes of a confusion matrix: more would need gigabytes


class Classification:
    """One class per image: networks output logits [B, C], targets are classes [B]."""

    metrics: Mapping[str, str] = {"top1": "top-1", "top5": "top-5"}
    spatial = False

    def __init__(self, *, num_classes: int) -> None:
        self.facts: Mapping[str, Any] = {"num_classes": num_classes}
        if num_classes <= FIRST:
            self.metrics = {k: heading for k, heading in self.metrics.items() if k != "top5"}
        self.chance = 1 / num_classes

    def check(self, output: object, images: Tensor) -> None:
        """Raise ValueError unless `output` is logits [B, C]."""
        classes = self.facts["num_classes"]
        if not isinstance(output, Tensor) or output.shape != (len(images), classes):
            n, found = len(images), shape_of(output)
            wanted = f"logits [{n}, {classes}] for the data's {classes} classes"
            raise ValueError(f"its output for {n} images is {found}, not {wanted}")

    def check_source(self, source: ImageSource) -> None:
        """Raise ValueError naming the first sample whose label is not in [0, C)."""
        check_labels(source, classes=self.facts["num_classes"])

    def meter(self, device: torch.device) -> Meter:
        """Return a meter of top1 and top5, in [0, 1], and loss (cross-entropy).

        Up to five classes there is no top5, which would be 1.
        """
        return _Meter(self.facts["num_classes"], device)

    def class_meter(self, device: torch.device) -> ClassMeter | None:
        """Return a meter of recall, precision, F1 and calibration; None above 4096 classes."""
        classes, metrics = self.facts["num_classes"], ("recall", "precision", "f1")
        how = {"decide": self.decide, "metrics": metrics, "calibrated": True}
        return ConfusionMeter(classes, device, **how) if classes <= MOST else None

    def decide(self, output: Tensor) -> Tensor:
        """Return the likeliest class of each image [B]."""
        return output.argmax(1)

    def draw(self, image: Tensor, target: Tensor, output: Tensor) -> None:
        """Draw nothing."""


def check_labels(source: ImageSource, *, classes: int) -> None:
    """Raise ValueError naming the first sample whose label is not in [0, classes)."""
    labels = source.labels
    bad = ((labels < 0) | (labels >= classes)).nonzero().flatten()
    if len(bad):
        found = f"{source.name(int(bad[0]))}: label {int(labels[bad[0]])} is not in [0, {classes})"
        raise ValueError(f"{found}; {len(bad):,} of {len(labels):,} labels are wrong")


def shape_of(output: object) -> list[int] | str:
    """Return the shape of a network's output, or the name of its type if it is no tensor."""
    return list(output.shape) if isinstance(output, Tensor) else type(output).__name__


class _Meter:
    """Each sample counted once, over all processes."""

    def __init__(self, classes: int, device: torch.device) -> None:
        names = ("top1", "top5", "loss") if classes > FIRST else ("top1", "loss")
        self.means = {name: Mean(device) for name in names}

    def update(self, output: Tensor, target: Tensor) -> None:
        top1 = output.argmax(1) == target
        found = {"top1": top1, "loss": F.cross_entropy(output, target, reduction="none")}
        if "top5" in self.means:
            likeliest = output.topk(FIRST).indices
            among = (likeliest == target[:, None]).any(1)
            found["top5"] = top1 | among  # of ties, topk may choose others
        for name, mean in self.means.items():
            mean.update(found[name])

    def compute(self) -> dict[str, float]:
        return {name: mean.compute() for name, mean in self.means.items()}
