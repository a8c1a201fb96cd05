"""Classification of images that may have several labels each. B: batch, N: samples, C: labels."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdx.losses.bce import image_bce
from kdx.protocols import ClassMeter, ClassReport, ImageSource, Meter
from kdx.tasks.by_class import Calibration
from kdx.tasks.sums import Mean, wide
from kdx.tasks.vectors import check_targets, check_vector

UNKNOWN = -1  # a label that is neither 0 nor 1, and does not count


class MultiLabel:
    """Any number of labels an image: networks output logits [B, C], an image has those above 0.

    Targets are float [B, C]: 1 for the labels that an image has, 0 for others, -1 where that is
    unknown. `chance` is the mAP of a network that knows nothing: the labels' mean share.
    """

    metrics: Mapping[str, str] = {"map": "mAP", "f1": "F1 (micro)", "f1_macro": "F1 (macro)"}
    spatial = False

    def __init__(self, *, num_classes: int, chance: float = 0.0) -> None:
        self.facts: Mapping[str, Any] = {"num_classes": num_classes}
        self.labels, self.chance = num_classes, chance

    def check(self, output: object, images: Tensor) -> None:
        """Raise ValueError unless `output` is logits [B, C]."""
        check_vector(output, images, self.labels, "labels")

    def check_source(self, source: ImageSource) -> None:
        """Raise ValueError naming the first sample with a label other than 1, 0 and -1."""
        wanted = "1, 0, or -1 for unknown"
        check_targets(source, self.labels, lambda t: (t == 0) | (t == 1) | (t == UNKNOWN), wanted)

    def meter(self, device: torch.device) -> Meter:
        """Return a meter of the metrics, in [0, 1], and of loss (binary cross-entropy).

        map: mean over labels of the average precision, the area below precision by recall in steps;
        f1: of all labels' decisions together, f1_macro: the mean over labels. Labels that no image
        has are left out of the means; 0 without any.
        """
        return _Meter(self.labels, device)

    def class_meter(self, device: torch.device) -> ClassMeter:
        """Return a meter of each label: average precision, precision, recall, F1; calibration."""
        return _LabelMeter(self.labels, device)

    def decide(self, output: Tensor) -> Tensor:
        """Return 1 for the labels of each image, 0 for others, int64 [B, C]."""
        return (output > 0).long()

    def draw(self, image: Tensor, target: Tensor, output: Tensor) -> None:
        """Draw nothing."""


class _Labels:
    """Average precision and counts of each label, over all processes."""

    def __init__(self, labels: int, device: torch.device) -> None:
        from torchmetrics.classification import (  # here: it takes as long to import as torch
            MultilabelAveragePrecision,
            MultilabelStatScores,
        )

        how: Any = {"average": "none", "ignore_index": UNKNOWN, "validate_args": False}
        self.precision = MultilabelAveragePrecision(labels, **how).to(device)
        self.counts = MultilabelStatScores(labels, **how).to(device)
        # A process may have no images, and a label may be unknown in all: one without any label and
        # the lowest score changes no average precision.
        empty = torch.zeros(1, labels, dtype=torch.int64, device=device)
        self.precision.update(wide(empty), empty)
        self.counts.update(empty, empty + UNKNOWN)

    def update(self, output: Tensor, target: Tensor) -> None:
        known = target.long()
        # In [0, 1], in the order of the logits: sigmoid, which torchmetrics would use, ends in 1.
        self.precision.update((1 + wide(output) / (1 + wide(output).abs())) / 2, known)
        self.counts.update((output > 0).long(), known)

    def compute(self) -> dict[str, Tensor]:
        """Return "ap", "precision", "recall", "f1", NaN if undefined, and "count" [C]."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No positive samples", UserWarning)
            ap = self.precision.compute()
        right, wrong, _, missed, count = wide(self.counts.compute()).unbind(-1)
        return {
            "ap": ap.where(count > 0, torch.nan),
            "precision": right / (right + wrong),
            "recall": right / count,
            "f1": 2 * right / (2 * right + wrong + missed),
            "micro": 2 * right.sum() / (2 * right + wrong + missed).sum(),
            "count": count,
        }


class _Meter:
    def __init__(self, labels: int, device: torch.device) -> None:
        self.labels = _Labels(labels, device)
        self.loss = Mean(device)

    def update(self, output: Tensor, target: Tensor) -> None:
        self.labels.update(output, target)
        self.loss.update(image_bce(output, target))

    def compute(self) -> dict[str, float]:
        found = self.labels.compute()
        occurs = found["count"] > 0
        means = {
            "map": found["ap"][occurs].mean(),
            "f1": found["micro"],
            "f1_macro": found["f1"][occurs].mean(),
        }
        shares = {name: float(value.nan_to_num(0)) for name, value in means.items()}
        return {**shares, "loss": self.loss.compute()}


class _LabelMeter:
    def __init__(self, labels: int, device: torch.device) -> None:
        self.labels, self.calibration = _Labels(labels, device), Calibration(device)

    def update(self, output: Tensor, target: Tensor) -> None:
        self.labels.update(output, target)
        predicted, known = output > 0, target != UNKNOWN
        sure = output.float().abs().sigmoid()  # of the decision, for or against the label
        self.calibration.update(sure[known], (predicted == target)[known])

    def compute(self) -> ClassReport:
        found = {name: value.tolist() for name, value in self.labels.compute().items()}
        headings = {
            "ap": "average precision",
            "precision": "precision",
            "recall": "recall",
            "f1": "F1",
        }
        metrics = {
            name: (heading, [None if value != value else value for value in found[name]])
            for name, heading in headings.items()
        }
        calibration = self.calibration.compute()
        return ClassReport(metrics, [int(n) for n in found["count"]], None, calibration)
