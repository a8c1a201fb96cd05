"""Detections measured by one process, or by one of two that imports little else."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.detection import assign
from kdx.tasks import Detection

__all__ = ["SIZES", "measured", "part"]

TASK = Detection(classes=["ant", "bee"], anchors=[[1, 1], [2, 2]])
SIZES = (1, 2, 7)  # of one image, the second of two processes gets none


def scenes(n: int) -> tuple[Tensor, Tensor]:
    """Return outputs that are about right, and one to three objects an image; the fifth has none.

    Some objects are difficult.
    """
    generator = torch.Generator().manual_seed(n)
    target = torch.rand(n, 3, 6, generator=generator)
    target[..., 0] = torch.randint(2, (n, 3), generator=generator)
    target[..., 3:5] = target[..., 3:5] * 0.3 + 0.2
    target[..., 5] = (target[..., 5] > 0.8).float()
    for image in range(n):
        target[image, 1 + image % 3 :] = -1
    target[4:5] = -1
    return about(target) + 0.2 * torch.randn(n, 14, 4, 4, generator=generator), target


def about(target: Tensor) -> Tensor:
    """Return the output that says exactly what there is."""
    found = assign(target, TASK.anchors, grid=(4, 4))
    places, sizes = found.coordinates.split(2, dim=-1)
    classes = 3 * F.one_hot(target[..., 0].long().clamp(min=0), 2)
    values = torch.cat([places.logit(1e-3), sizes, 3 * found.real[..., None], classes], dim=-1)
    boxes = torch.full((len(target), 32, 7), -3.0)
    boxes = boxes.scatter(1, found.slots[..., None].expand_as(values), values)
    return boxes.unflatten(1, (2, 4, 4)).movedim(-1, 2).flatten(1, 2)


def measured(n: int, *, rank: int = 0, world: int = 1) -> dict[str, float]:
    """Return the metrics of every world-th of n images, taken in batches of two."""
    outputs, target = scenes(n)
    meter = TASK.meter(torch.device("cpu"))
    for batch in range(rank, n, 2 * world):
        mine = slice(batch, batch + 2 * world, world)
        meter.update(outputs[mine], target[mine])
    return dict(meter.compute())


def part(rank: int) -> dict[int, dict[str, float]]:
    """Measure as one process of two, each number of images in turn."""
    return {n: measured(n, rank=rank, world=2) for n in SIZES}
