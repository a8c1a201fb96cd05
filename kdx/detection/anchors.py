"""Anchors by k-means (YOLO9000, section 2, "Dimension Clusters"). N: boxes, K: anchors."""

import torch
from torch import Tensor

from kdx.detection.grid import shape_iou

STARTS = 10
ROUNDS = 300


def cluster(sizes: Tensor, k: int, *, seed: int = 0) -> Tensor:
    """Return K anchors [K, 2] for boxes of `sizes` [N, 2], (w, h) in cells, the smallest first.

    k-means++ (Arthur & Vassilvitskii 2007) with the distance 1 - IoU of shapes that share their
    centre; of ten starts, the best by `mean_best_iou`. ValueError for fewer than K different sizes.
    """
    sizes = sizes.double()
    different = len(sizes.unique(dim=0))
    if not 1 <= k <= different:
        raise ValueError(f"k: {k} anchors, but the boxes have {different} different sizes")
    generator = torch.Generator().manual_seed(seed)
    found = [_settled(sizes, _drawn(sizes, k, generator)) for _ in range(STARTS)]
    best = max(found, key=lambda anchors: mean_best_iou(sizes, anchors))
    return best[best.prod(1).argsort()]


def mean_best_iou(sizes: Tensor, anchors: Tensor) -> float:
    """Return the mean over boxes of `sizes` [N, 2] of the IoU with the best anchor of [K, 2]."""
    return float(shape_iou(sizes, anchors.to(sizes)).amax(1).mean())


def _drawn(sizes: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Draw K boxes, each with a probability by its squared distance from those before it."""
    distances = torch.ones(len(sizes), dtype=sizes.dtype)
    drawn = sizes[:0]
    for _ in range(k):
        number = torch.multinomial(distances.square(), 1, generator=generator)
        drawn = torch.cat([drawn, sizes[number]])
        distances = 1 - shape_iou(sizes, drawn).amax(1)
    return drawn


def _settled(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Move each anchor to the mean of the boxes nearest to it, until they stay theirs."""
    nearest = None
    for _ in range(ROUNDS):
        before, nearest = nearest, shape_iou(sizes, anchors).argmax(1)
        if before is not None and torch.equal(before, nearest):
            break
        index = nearest[:, None].expand_as(sizes)
        anchors = anchors.scatter_reduce(0, index, sizes, "mean", include_self=False)
    return anchors
