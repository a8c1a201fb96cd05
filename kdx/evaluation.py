"""Top-1, top-5, loss, and agreement with the teacher: each sample counted once."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdx.data import Batch

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["Evaluation", "eval_mode", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and the class predicted for each of this process's samples.

    `metrics`: top1 and top5 in [0, 1], loss (cross-entropy), and agreement where there is a
    teacher; over the samples of all processes. `predictions` [N] is -1 for samples that
    another process evaluates.
    """

    metrics: dict[str, float]
    predictions: Tensor


@torch.no_grad()
def evaluate(
    predict: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    *,
    samples: int,
    classes: int,
    device: torch.device,
    teacher: Tensor | None = None,
) -> Evaluation:
    """Evaluate `predict`, images [B, C, H, W] to logits [B, classes], in eval mode already.

    `samples` is the number of samples over all processes; `teacher` [samples] holds the
    teacher's predictions, as an earlier evaluation of the same batches gave them.
    """
    metrics = _metrics(classes, agreement=teacher is not None)
    metrics = {name: metric.to(device) for name, metric in metrics.items()}
    predictions = torch.full((samples,), -1, device=device)
    teacher = None if teacher is None else teacher.to(device)
    for images, labels, indices in batches:
        labels = labels.to(device, non_blocking=True)
        logits = predict(images.to(device, non_blocking=True)).float()
        metrics["top1"].update(logits, labels)
        metrics["top5"].update(logits, labels)
        metrics["loss"].update(F.cross_entropy(logits, labels, reduction="none"))
        indices = indices.to(device, non_blocking=True)
        predictions[indices] = logits.argmax(1)
        if teacher is not None:
            metrics["agreement"].update((predictions[indices] == teacher[indices]).float())
    values = {name: float(metric.compute()) for name, metric in metrics.items()}
    return Evaluation(values, predictions.cpu())


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network into eval mode, and back into the mode that it was in."""
    training = network.training
    try:
        yield network.eval()
    finally:
        network.train(training)


def _metrics(classes: int, *, agreement: bool) -> "dict[str, Metric]":
    from torchmetrics import MeanMetric  # here: it takes as long to import as torch
    from torchmetrics.classification import MulticlassAccuracy

    top = partial(MulticlassAccuracy, classes, average="micro", validate_args=False)
    metrics: dict[str, Metric] = {
        "top1": top(top_k=1),
        "top5": top(top_k=min(5, classes)),
        "loss": MeanMetric(nan_strategy="disable"),  # NaN shall show; it ignores weights
    }
    return metrics | ({"agreement": MeanMetric()} if agreement else {})
