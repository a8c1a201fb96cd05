"""From a network's output to detections: scores, and non-maximum suppression.

B: batch, N: boxes of an image, C: classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kdx.detection.grid import decode, split

CANDIDATES = 1000  # of an image, before suppression, which takes their number squared


class Detections(NamedTuple):
    """The detections of one image, the most confident first.

    `boxes` [N, 4] are corners (x1, y1, x2, y2) as shares of the image, in [0, 1]; `scores` [N] are
    in [0, 1], `classes` [N] int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


@torch.no_grad()
def detect(
    output: Tensor,
    *,
    num_classes: int,
    anchors: Tensor,
    score: float = 0.3,
    iou: float = 0.45,
    limit: int = 100,
) -> list[Detections]:
    """Return the detections of each image from an output [B, A * (5 + C), GH, GW].

    A box's score for a class is its objectness times the class's probability (softmax), and a
    box counts for every class with a score above `score`. Of an image's 1,000 best, those are
    removed that overlap a better one of their class by more than `iou`; at most `limit` remain.
    Boxes are clipped to the image, in float32. `anchors` [A, 2] are in cells.
    """
    from torchvision.ops import box_convert, clip_boxes_to_image

    parts = split(output.float(), num_classes=num_classes)
    boxes = decode(parts, anchors.to(parts.objectness)).flatten(1, 3)
    boxes = box_convert(boxes, "cxcywh", "xyxy")
    boxes = clip_boxes_to_image(boxes, (1, 1))
    scores = parts.objectness.sigmoid()[..., None] * parts.classes.softmax(-1)
    return [
        _suppressed(*image, score=score, iou=iou, limit=limit)
        for image in zip(boxes, scores.flatten(1, 3), strict=True)
    ]


def _suppressed(
    boxes: Tensor, scores: Tensor, *, score: float, iou: float, limit: int
) -> Detections:
    """Return the detections among boxes [N, 4] with scores [N, C]."""
    from torchvision.ops import batched_nms

    best, places = scores.flatten().topk(min(CANDIDATES, scores.numel()))
    places, best = places[best > score], best[best > score]
    classes, boxes = places % scores.shape[1], boxes[places // scores.shape[1]]
    kept = batched_nms(boxes, best, classes, iou)[:limit]
    return Detections(boxes[kept], best[kept], classes[kept])
