"""Evaluate a network on a split: the task's metrics, and agreement with the teacher."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.data import Batch
from kdx.protocols import Task
from kdx.tasks import Mean, decisions_of

Observer = Callable[[Tensor, Tensor, Tensor], None]
"""Takes the outputs (float32), targets and indices of each batch."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the samples of all processes: the task's, and "agreement" with a teacher.

    `predictions` [N, ...] is -1 for samples that another process evaluates; None for tasks whose
    decisions are not compared.
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
    observe: Sequence[Observer] = (),
) -> Evaluation:
    """Evaluate `predict`, images [B, C, H, W] to the task's outputs, already in eval mode.

    `samples` is the number of samples of all processes; `teacher` [samples, ...] are the teacher's
    predictions from an evaluation of the same batches; each of `observe` is called with each batch.
    """
    meter, agreement = task.meter(device), Mean(device)
    shape = decisions_of(task)
    predictions = None if shape is None else torch.full((samples, *shape), -1, device=device)
    teacher = None if teacher is None else teacher.to(device)
    for images, targets, indices in batches:
        targets = targets.to(device, non_blocking=True)
        outputs = predict(images.to(device, non_blocking=True)).float()
        meter.update(outputs, targets)
        for each in observe:
            each(outputs, targets, indices)
        if predictions is not None:
            decided, indices = task.decide(outputs), indices.to(device, non_blocking=True)
            predictions[indices] = decided
            if teacher is not None:
                agreement.update((decided == teacher[indices]).flatten())
    metrics = dict(meter.compute())
    if teacher is not None:  # on all processes or on none, also if one has no samples
        metrics["agreement"] = agreement.compute()
    return Evaluation(metrics, None if predictions is None else predictions.cpu())
