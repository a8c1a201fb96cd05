"""classes.json: how good an exported student is, class by class. B: batch, C: classes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdx.models.class_order import per_class
from kdx.protocols import ByClass, ClassReport, ImageSource, Task
from kdx.tasks import numbers_of
from kdx.training.evaluation import Observer
from kdx.util.files import write_whole
from kdx.util.words import listed

FILE = "classes.json"
WORST = 24
UNIT = 2**30  # of a confidence in whole numbers, which any device has and gathers


@dataclass(frozen=True)
class Classes:
    """A `kdx.protocols.ClassReport` of the images of a split, as classes.json has it.

    `metrics` are {"heading": ..., "values": [C]} by name. `worst` are the mistakes that the network
    is surest of, of classification alone: each {"index", "name", "true", "predicted", "confidence",
    "picture"}, the image's number and name in the split, classes as numbers, a file or None.
    `numbers` are the metrics that are not shares.
    """

    split: str
    images: int
    names: Sequence[str]
    count: Sequence[int]
    metrics: Mapping[str, Mapping[str, Any]]
    confusion: Sequence[Sequence[int]] | None
    calibration: Mapping[str, Any] | None
    worst: Sequence[Mapping[str, Any]]
    numbers: Sequence[str] = ()

    @property
    def values(self) -> dict[str, list[float | None]]:
        """The values [C] of each metric by name."""
        return {name: list(each["values"]) for name, each in self.metrics.items()}

    @property
    def main(self) -> str:
        """The name of the metric by which classes are compared."""
        return next(iter(self.metrics))


def write_classes(run_dir: Path, classes: Classes) -> None:
    """Write classes.json."""
    write_whole(run_dir / FILE, json.dumps(asdict(classes)) + "\n")


class ClassObserver:
    """Judges predictions class by class while a network is evaluated, if the task can do that."""

    def __init__(self, task: Task, names: Sequence[str], device: torch.device) -> None:
        self.task, self.names = task, [str(name) for name in names]
        self.numbers = numbers_of(task)
        self.meter = task.class_meter(device) if isinstance(task, ByClass) else None
        self.worst = torch.full((WORST, 4), -1)  # confidence, index, true and predicted class

    @property
    def observers(self) -> list[Observer]:
        """What `kdx.training.evaluation.evaluate` must call."""
        return [self._observe] if self.meter else []

    def report(
        self,
        split: str,
        source: ImageSource,
        *,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> Classes | None:
        """Return what was seen of a split by all processes; None if the task has no classes.

        All processes call it. `gather` concatenates their tensors, by rank. ValueError for a report
        of another number of classes than the data's.
        """
        if not self.meter:
            return None
        report, worst = self.meter.compute(), _surest(gather(self.worst)).tolist()
        _check(report, len(self.names), f"class_meter of {type(self.task).__name__}")
        return Classes(
            split,
            len(source),
            self.names,
            report.count,
            {n: {"heading": h, "values": v} for n, (h, v) in report.metrics.items()},
            report.confusion,
            report.calibration,
            [
                {
                    "index": index,
                    "name": source.name(index),
                    "true": true,
                    "predicted": predicted,
                    "confidence": sure / UNIT,
                    "picture": None,
                }
                for sure, index, true, predicted in worst
                if sure >= 0
            ],
            self.numbers,
        )

    def _observe(self, outputs: Tensor, targets: Tensor, indices: Tensor) -> None:
        assert self.meter
        self.meter.update(outputs, targets)
        is_label = targets.ndim == 1 and not targets.is_floating_point()
        if is_label and per_class(outputs, targets, len(self.names)):
            confidence, predicted = outputs.softmax(1).max(1)
            sure = (confidence.nan_to_num(0.0) * UNIT).long().where(predicted != targets, -1)
            rows = torch.stack([sure, indices.to(predicted.device), targets, predicted], dim=1)
            self.worst = _surest(torch.cat([self.worst.to(rows.device), rows]))


def _check(report: ClassReport, classes: int, origin: str) -> None:
    lengths = {"count": len(report.count)}
    lengths |= {f"metrics[{name!r}]": len(values) for name, (_, values) in report.metrics.items()}
    if report.confusion is not None:
        rows = {"confusion": report.confusion}
        rows |= {f"confusion[{row}]": each for row, each in enumerate(report.confusion)}
        lengths |= {name: len(each) for name, each in rows.items()}
    if wrong := [f"{name} has {count}" for name, count in lengths.items() if count != classes]:
        what = f"wrong number of classes: {listed(wrong)}"
        raise ValueError(f"{origin}: {what}, but the data set has {classes} class names")
    if not report.metrics:
        raise ValueError(f"{origin}: no metrics: a ClassReport needs one or more")


def _surest(rows: Tensor) -> Tensor:
    """Return the rows of the greatest confidences [24, 4], the earlier one first of equal ones."""
    return rows[rows[:, 0].argsort(descending=True, stable=True)[:WORST]]
