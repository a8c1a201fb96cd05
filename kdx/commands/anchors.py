"""Find anchors for the boxes of a recipe's training images, by k-means.

kdx anchors configs/<dataset>/<recipe>.yaml [--k 5] [key=value ...]
"""

# A: anchors, N: boxes.

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdx.commands.shared import add_recipe, load_recipe, positive
from kdx.recipe import Recipe
from kdx.util.words import counted

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx anchors`."""
    add_recipe(parser, example="data.size=608")
    add = parser.add_argument
    add("--k", type=positive, default=5, metavar="N", help="how many anchors (default: 5)")
    add("--stride", type=positive, default=32, help="pixels per cell of the grid (default: 32)")


def run(args: argparse.Namespace) -> None:
    """Print the line for the recipe's `data:`."""
    print(propose(load_recipe(args), k=args.k, stride=args.stride))


@dataclass(frozen=True)
class Proposal:
    """Anchors [A, 2] in cells, and their fit: the mean IoU of N boxes with the best anchor.

    `present` is the fit of the recipe's own anchors, of which there are `present_anchors`.
    """

    anchors: "Tensor"
    boxes: int
    fit: float
    present_anchors: int
    present: float

    def __str__(self) -> str:
        pairs = [[round(side, 2) for side in anchor] for anchor in self.anchors.tolist()]
        boxes, own = counted(self.boxes, "box", "boxes"), counted(self.present_anchors, "anchor")
        fits = f"{boxes}: {self.fit:.3f}, of the recipe's {own}: {self.present:.3f}"
        return f"anchors: {pairs}\n# mean best IoU with {fits}"


def propose(recipe: Recipe, *, k: int = 5, stride: int = 32) -> Proposal:
    """Return k anchors for the recipe's training images, letterboxed, without augmentation.

    A cell of the grid is `stride` pixels of the input. Difficult objects, which are not trained
    on, are left out. Raises ValueError for a data set without boxes, or with fewer than k sizes.
    """
    import torch

    from kdx.data.boxes import BoxImages
    from kdx.detection import anchor_table, cluster, mean_best_iou
    from kdx.tasks import task_of
    from kdx.training.job import build_data

    data, splits = build_data(recipe)
    source, (high, wide) = splits.train, data.input.hw
    if not isinstance(source, BoxImages):
        raise ValueError(f"data.use: {recipe.data.component.use!r} has no boxes to fit anchors to")

    def sizes_of(index: int) -> "Tensor":
        """Return (w, h) [N, 2] of an image's boxes in pixels of its letterboxed view."""
        rows = source.boxes[index]
        height, width = source.size(index)
        fit = min(high / height, wide / width)
        return rows[rows[:, 5] <= 0, 3:5] * torch.tensor([width, height]) * fit

    sizes = torch.cat([*map(sizes_of, range(len(source)))]) / stride
    own, found = anchor_table(task_of(data).facts["anchors"]), cluster(sizes, k)
    fit, present = mean_best_iou(sizes, found), mean_best_iou(sizes, own)
    return Proposal(found, len(sizes), fit, len(own), present)
