"""What networks are trained for.

B: batch, C: classes, H, W: height and width in pixels, A: anchors, GH, GW: the grid's rows and
columns, M: the most boxes of an image in the batch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from kdx.protocols.images import ImageSource

IGNORED = -100  # the class of a pixel that does not count, as in torch's cross-entropy
UNKNOWN = -1  # the class of an id that no mask should have


class Meter(Protocol):
    """Adds up metrics, a batch at a time, each sample once."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take a network's output for a batch, in float32, and the batch's target."""
        ...

    def compute(self) -> Mapping[str, float]:
        """Return the metrics by name, over all processes: those of `Task.metrics`, and others."""
        ...


@dataclass(frozen=True)
class ClassReport:
    """How good the outputs are, class by class: C classes, labels or outputs.

    `metrics` are (heading, a value for each class, None if undefined) by name. `count`:
    samples (pixels, boxes) of each class. `confusion` [C, C]: truth by row, prediction by column.
    `calibration`: {"ece", "bins": [{"low", "high", "count", "confidence", "accuracy"}, ...]}.
    """

    metrics: Mapping[str, tuple[str, Sequence[float | None]]]
    count: Sequence[int]
    confusion: Sequence[Sequence[int]] | None = None
    calibration: Mapping[str, Any] | None = None


class ClassMeter(Protocol):
    """Adds up metrics of each class, a batch at a time, each sample once."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take a network's output for a batch, in float32, and the batch's target."""
        ...

    def compute(self) -> ClassReport:
        """Return the report, over all processes."""
        ...


class Task(Protocol):
    """What the networks of a data set output, and how it is judged.

    `metrics` are headings of shares in [0, 1] by name, the one that chooses the best epoch first.
    `facts` are what networks and losses may ask to know, as JSON holds it, `num_classes` among it.
    `chance` is the first metric of random guessing. `spatial`: outputs are of places in the image,
    so that a teacher sees images of the student's size.

    Outputs and targets are one tensor each, batch first. Classification: [B, C], and classes [B].
    Multi-label: [B, C], and float [B, C] of 1, 0, or -1 for unknown. Regression of D numbers:
    [B, D], and float [B, D].
    Segmentation: [B, C, H, W], and classes [B, H, W], -100 where a pixel does not count.
    Detection: [B, A * (5 + C), GH, GW], and boxes [B, M, 6] as (class, x, y, w, h, difficult),
    centre and size as shares of the image, images of fewer boxes filled up with rows of -1.
    """

    metrics: Mapping[str, str]
    facts: Mapping[str, Any]
    chance: float
    spatial: bool

    def check(self, output: object, images: Tensor) -> None:
        """Raise ValueError if `output` has the wrong shape for `images`."""
        ...

    def check_source(self, source: ImageSource) -> None:
        """Raise ValueError with the first sample whose target does not fit the task."""
        ...

    def meter(self, device: torch.device) -> Meter:
        """Return an empty meter that works on a device."""
        ...

    def decide(self, output: Tensor) -> Tensor:
        """Return predictions, int64, such as classes: [B], or [B, ...] if the task is spatial."""
        ...

    def draw(self, image: Tensor, target: Tensor, output: Tensor) -> Tensor | None:
        """Draw target and output, without batch, on an image, uint8 [3, H, W]; None: no picture."""
        ...


@runtime_checkable
class Numeric(Protocol):
    """A task with metrics that are numbers, such as an error in units, not shares; optional.

    `numbers` are their names: they are printed as they are, not in percent. The first metric of
    the task has to be larger for a better network in any case.
    """

    numbers: Collection[str]


@runtime_checkable
class ByClass(Protocol):
    """A task that can judge outputs class by class, too; a task need not."""

    def class_meter(self, device: torch.device) -> ClassMeter | None:
        """Return an empty meter that works on a device; None if there would be too many classes."""
        ...
