"""A segmentation measured by one process, or by one of two that imports little else."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from kdx.tasks import Classification, Segmentation

NAMES = ("road", "car", "sky", "train")
TASK = Segmentation(classes=NAMES)
CPU = torch.device("cpu")


def outputs() -> tuple[Tensor, Tensor]:
    """Return logits [7, 4, 5, 6], and targets: some pixels do not count, of the last image none."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(4, (7, 5, 6), generator=generator)
    target[:, :2, :3] = -100
    target[-1] = -100
    return torch.randn(7, 4, 5, 6, generator=generator), target


def measured(logits: Tensor, target: Tensor) -> dict[str, float]:
    """Return the metrics of all, taken in batches of three."""
    meter = TASK.meter(CPU)
    for part, truth in zip(logits.split(3), target.split(3), strict=True):
        meter.update(part, truth)
    return dict(meter.compute())


def by_class(logits: Tensor, target: Tensor) -> list[dict[str, Any]]:
    """Return the reports of all pixels, and of one pixel of each image as its class."""
    pixels, images = TASK.class_meter(CPU), Classification(num_classes=4).class_meter(CPU)
    assert images
    for part, truth in zip(logits.split(3), target.split(3), strict=True):
        pixels.update(part, truth)
        images.update(part[:, :, 0, 0], truth[:, 0, 0].clamp(min=0))
    return [asdict(each.compute()) for each in (pixels, images)]


def part(rank: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure five or two of the images, as one process of two."""
    mine = [each.split((5, 2))[rank] for each in outputs()]
    return measured(*mine), by_class(*mine)
