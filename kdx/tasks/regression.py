"""Numbers read from images. B: batch, D: outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdx.protocols import ClassMeter, ClassReport, ImageSource, Meter
from kdx.tasks.sums import Sums, wide
from kdx.tasks.vectors import check_targets, check_vector


class Regression:
    """D numbers an image: networks output [B, D], targets are float [B, D].

    Networks learn (number - mean) / std, for `mean` and `std` [D], by default 0 and 1: targets and
    outputs are so standardized, and the facts `target_mean`, `target_std` of an exported student.
    MAE and RMSE are in the units of the numbers.
    """

    metrics: Mapping[str, str] = {"r2": "R2", "mae": "MAE", "rmse": "RMSE"}
    spatial = False
    chance = 0.0  # the R2 of the mean of the numbers

    def __init__(
        self,
        *,
        outputs: Sequence[str],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.outputs = list(outputs)
        self.mean = list(mean or [0.0] * len(self.outputs))
        self.std = list(std or [1.0] * len(self.outputs))
        self.numbers = [*self.metrics, *(f"mae/{name}" for name in self.outputs)]
        self.facts: Mapping[str, Any] = {
            "num_classes": len(self.outputs), "target_mean": self.mean, "target_std": self.std
        }  # fmt: skip

    def check(self, output: object, images: Tensor) -> None:
        """Raise ValueError unless `output` is [B, D]."""
        check_vector(output, images, len(self.outputs), "outputs")

    def check_source(self, source: ImageSource) -> None:
        """Raise ValueError naming the first sample whose target is NaN or Inf."""
        check_targets(source, len(self.outputs), torch.isfinite, "finite")

    def meter(self, device: torch.device) -> Meter:
        """Return a meter of r2, mae and rmse, each the mean over the outputs, and of loss.

        r2 is 1 - mean square of the errors / variance of the targets, at most 1, and 0 for the mean
        of the targets; where all are equal 0, or 1 without error. loss is the mean square of what
        networks learn. Of several outputs, mae/<output> is there for each.
        """
        return _Meter(self, device)

    def class_meter(self, device: torch.device) -> ClassMeter:
        """Return a meter of each output: MAE, R2."""
        return _OutputMeter(self, device)

    def decide(self, output: Tensor) -> Tensor:
        """Return no decision, int64 [B, 0]: numbers are compared by their errors alone."""
        return torch.empty(len(output), 0, dtype=torch.int64, device=output.device)

    def draw(self, image: Tensor, target: Tensor, output: Tensor) -> None:
        """Draw nothing."""


class _Outputs:
    """What is known of each output, over all processes."""

    def __init__(self, task: Regression, device: torch.device) -> None:
        self.std = wide(torch.tensor(task.std, device=device))
        self.sums = Sums(self.std.new_zeros(5, len(task.outputs)))

    def update(self, output: Tensor, target: Tensor) -> None:
        error, goal = wide(output) - wide(target), wide(target)
        each = [error.abs(), error.square(), goal, goal.square(), torch.ones_like(goal)]
        self.sums.update(torch.stack(each).sum(1))

    def compute(self) -> dict[str, Tensor]:
        """Return "mae", "rmse", "r2", "square" of what is learned, and "count", each [D]."""
        *sums, count = self.sums.compute()
        mae, square, mean, power = (each / count for each in sums)
        variance = (power - mean.square()).clamp(min=0)
        constant = variance <= torch.finfo(variance.dtype).eps * power
        r2 = torch.where(constant, (square == 0).to(square), 1 - square / variance)
        mae, rmse = mae * self.std, square.sqrt() * self.std
        return {"mae": mae, "rmse": rmse, "r2": r2, "square": square, "count": count}


class _Meter:
    def __init__(self, task: Regression, device: torch.device) -> None:
        self.task, self.outputs = task, _Outputs(task, device)

    def update(self, output: Tensor, target: Tensor) -> None:
        self.outputs.update(output, target)

    def compute(self) -> dict[str, float]:
        found = self.outputs.compute()
        means = {name: float(found[name].mean()) for name in self.task.metrics}
        names = self.task.outputs if len(self.task.outputs) > 1 else ()
        each = {f"mae/{name}": float(found["mae"][n]) for n, name in enumerate(names)}
        return {**means, **each, "loss": float(found["square"].mean())}


class _OutputMeter:
    def __init__(self, task: Regression, device: torch.device) -> None:
        self.outputs = _Outputs(task, device)

    def update(self, output: Tensor, target: Tensor) -> None:
        self.outputs.update(output, target)

    def compute(self) -> ClassReport:
        found = self.outputs.compute()
        metrics = {name: (name.upper(), found[name].tolist()) for name in ("r2", "mae")}
        return ClassReport(metrics, [int(n) for n in found["count"]], None, None)
