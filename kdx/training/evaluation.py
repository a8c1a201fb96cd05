"""A network on a split: the task's metrics, and agreement with the teacher."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.data import Batch
from kdx.protocols import Task

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and what was decided for each of this process's samples.

    `metrics`: those of the task's meter, and agreement where there is a teacher; over the samples
    of all processes. `predictions` [N] is -1 for samples that another process evaluates; None
    where the task is spatial.
    """

    metrics: dict[str, float]
    predictions: Tensor | None


@torch.no_grad()
def evaluate(
    predict: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    *,
    task: Task,
    samples: int,
    device: torch.device,
    teacher: Tensor | None = None,
) -> Evaluation:
    """Evaluate `predict`, images [B, C, H, W] to the task's answers, in eval mode already.

    `samples` is the number of samples over all processes; `teacher` [samples] holds the
    teacher's predictions, as an earlier evaluation of the same batches gave them.
    """
    from torchmetrics import MeanMetric  # here: it takes as long to import as torch

    meter, agreement = task.meter(device), MeanMetric().to(device)
    predictions = None if task.spatial else torch.full((samples,), -1, device=device)
    teacher = None if teacher is None else teacher.to(device)
    for images, targets, indices in batches:
        targets = targets.to(device, non_blocking=True)
        answer = predict(images.to(device, non_blocking=True)).float()
        meter.update(answer, targets)
        if predictions is None:
            continue
        decided, indices = task.decide(answer), indices.to(device, non_blocking=True)
        predictions[indices] = decided
        if teacher is not None:
            agreement.update((decided == teacher[indices]).float())
    metrics = dict(meter.compute())
    if teacher is not None:  # on all processes or on none, also where one has no samples
        metrics["agreement"] = float(agreement.compute())
    return Evaluation(metrics, None if predictions is None else predictions.cpu())
