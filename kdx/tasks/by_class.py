"""Outputs judged class by class. N: samples or pixels, C: classes."""

from collections.abc import Callable, Sequence
from math import isnan
from typing import Any

import torch
from torch import Tensor

from kdx.protocols import ClassReport
from kdx.tasks.sums import Confusion, Sums

BINS = 15
LISTED = 1000  # classes of a confusion matrix in a report: more would be a million numbers
UNIT = 2**30  # confidences are added up as whole numbers of 1 / UNIT: in any order to the same sum
Ratio = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

RATIOS: dict[str, tuple[str, Ratio]] = {
    "recall": ("recall", lambda right, truth, predicted: (right, truth)),
    "precision": ("precision", lambda right, truth, predicted: (right, predicted)),
    "f1": ("F1", lambda right, truth, predicted: (2 * right, truth + predicted)),
    "iou": ("IoU", lambda right, truth, predicted: (right, truth + predicted - right)),
}
"""Heading, numerator and denominator of counts [C]: right, of the class, predicted to be of it."""


class ConfusionMeter:
    """Counts (truth, decision), and from them the metrics of the names `metrics` in `RATIOS`.

    Targets of -100 do not count. A class has no value where `class_ratio` has none. With
    `calibrated`, outputs are logits [B, C], whose confidence is judged as well.
    """

    def __init__(
        self,
        classes: int,
        device: torch.device,
        *,
        decide: Callable[[Tensor], Tensor],
        metrics: Sequence[str],
        calibrated: bool = False,
    ) -> None:
        self.decide, self.metrics = decide, metrics
        self.confusion = Confusion(classes, device)
        self.calibration = Calibration(device) if calibrated else None

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take outputs [B, C, ...] and classes [B, ...]."""
        decided = self.decide(output)
        self.confusion.update(decided, target)
        if self.calibration:
            self.calibration.update(output.softmax(1).max(1).values, decided == target)

    def compute(self) -> ClassReport:
        """Return the report, over all processes."""
        confusion = self.confusion.compute().cpu()
        values = {}
        for name in self.metrics:
            ratios = class_ratio(confusion, name).tolist()
            values[name] = (RATIOS[name][0], [None if isnan(each) else each for each in ratios])
        calibration = self.calibration.compute() if self.calibration else None
        listed = confusion.tolist() if len(confusion) <= LISTED else None
        return ClassReport(values, confusion.sum(1).tolist(), listed, calibration)


def class_ratio(confusion: Tensor, name: str) -> Tensor:
    """Return a metric of `RATIOS` [C] (float64) of a confusion matrix [C, C], truth by row.

    NaN for a class that neither occurs nor is predicted, and for the recall of one that does not
    occur; the precision of one that occurs and is never predicted is 0.
    """
    right, truth, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    over, under = RATIOS[name][1](right, truth, predicted)
    known = truth > 0 if name == "recall" else truth + predicted > 0
    return (over.double() / under.clamp(min=1)).where(known, torch.nan)


class Calibration:
    """Whether confidence is the share that is right, in bins of equal width (Guo et al. 2017).

    Expected calibration error, eq. 3: the mean over the samples of |accuracy - confidence| of the
    bin. A bin takes confidences in (low, high], and the first one 0, too.
    """

    def __init__(self, device: torch.device) -> None:
        # counts, confidences, right ones
        self.sums = Sums(torch.zeros(3, BINS, dtype=torch.int64, device=device))

    def update(self, confidence: Tensor, right: Tensor) -> None:
        """Take confidences [N] in [0, 1], and whether the predictions are right [N]."""
        edges = torch.linspace(0, 1, BINS + 1, device=confidence.device)[1:-1]
        sure = confidence.nan_to_num(0.0)
        rows = [torch.ones_like(right), sure * UNIT, right]
        bins = torch.bucketize(sure, edges)
        found = torch.stack([row.long() for row in rows])
        self.sums.update(found.new_zeros(3, BINS).index_add_(1, bins, found))

    def compute(self) -> dict[str, Any]:
        """Return "ece" and "bins", as `ClassReport.calibration`."""
        count, confidence, right = self.sums.compute().cpu().double()
        confidence = confidence / UNIT
        ece = float((right - confidence).abs().sum() / count.sum().clamp(min=1))
        rows = zip(count.tolist(), confidence.tolist(), right.tolist(), strict=True)
        bins = [
            {
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "count": int(n),
                "confidence": sure / n if n else None,
                "accuracy": true / n if n else None,
            }
            for number, (n, sure, true) in enumerate(rows)
        ]
        return {"ece": ece, "bins": bins}
