"""Anchors for the boxes that a recipe trains on. A: anchors, N: boxes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.data.boxes import BoxImages
from kdx.data.decode import image_size
from kdx.detection import anchor_table, cluster, mean_best_iou
from kdx.protocols import InputSpec
from kdx.recipe import Recipe
from kdx.tasks import task_of
from kdx.training.job import build_data
from kdx.util.words import counted

__all__ = ["Proposal", "propose"]


@dataclass(frozen=True)
class Proposal:
    """Anchors [A, 2] in cells, and how well they fit N boxes: the mean IoU with the best one.

    `present` is how well the recipe's own fit, of which there are `present_anchors`.
    """

    anchors: Tensor
    boxes: int
    fit: float
    present_anchors: int
    present: float

    def __str__(self) -> str:
        pairs = [[round(side, 2) for side in anchor] for anchor in self.anchors.tolist()]
        return (
            f"anchors: {pairs}\n# mean best IoU with {counted(self.boxes, 'box', 'boxes')}: "
            f"{self.fit:.3f}, of the recipe's {counted(self.present_anchors, 'anchor')}: "
            f"{self.present:.3f}"
        )


def propose(recipe: Recipe, *, k: int = 5, stride: int = 32) -> Proposal:
    """Return k anchors for the recipe's training images, letterboxed, without augmentation.

    A cell of the grid is `stride` pixels of the input. Difficult objects, which nothing learns,
    are left out. ValueError for a data set without boxes, or with fewer sizes of them than k.
    """
    data, splits = build_data(recipe)
    source = splits.train
    if not isinstance(source, BoxImages):
        raise ValueError(f"data.use: {recipe.data.component.use!r} has no boxes to fit anchors to")
    sizes = torch.cat([_sizes(source, i, data.input) for i in range(len(source))]) / stride
    own = anchor_table(task_of(data).facts["anchors"])
    anchors = cluster(sizes, k)
    return Proposal(
        anchors, len(sizes), mean_best_iou(sizes, anchors), len(own), mean_best_iou(sizes, own)
    )


def _sizes(source: BoxImages, index: int, input: InputSpec) -> Tensor:
    """Return (w, h) [N, 2] of an image's boxes in pixels of its letterboxed view."""
    rows = source.boxes[index]
    (height, width), (high, wide) = image_size(source.paths[index]), input.hw
    fit = min(high / height, wide / width)
    return rows[rows[:, 5] <= 0, 3:5] * torch.tensor([width, height]) * fit
