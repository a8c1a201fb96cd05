"""The output of a detector: boxes on a grid (YOLO9000: Redmon & Farhadi 2016, section 2).

B: batch, A: anchors, C: classes, GH, GW: the grid's rows and columns.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 10.0  # of tw and th when they are decoded: exp(10) anchors are wider than any image


class Parts(NamedTuple):
    """The parts of an output, raw: no sigmoid or softmax has been applied.

    `offsets` [B, A, GH, GW, 2] are (tx, ty), `sizes` [B, A, GH, GW, 2] are (tw, th), `objectness`
    is [B, A, GH, GW], `classes` [B, A, GH, GW, C].
    """

    offsets: Tensor
    sizes: Tensor
    objectness: Tensor
    classes: Tensor


def split(output: Tensor, *, num_classes: int) -> Parts:
    """Return the parts of an output [B, A * (5 + C), GH, GW], as views of it.

    Channel a * (5 + C) + k is (tx, ty, tw, th, objectness, classes...)[k] of anchor a. ValueError
    if the channels are not a multiple of 5 + C.
    """
    values = 5 + num_classes
    if output.ndim != 4 or output.shape[1] == 0 or output.shape[1] % values:
        wanted = f"[B, A * {values}, rows, columns] with A anchors of 5 + {num_classes} values"
        raise ValueError(f"the output {list(output.shape)} has no boxes: it must be {wanted}")
    boxes = output.unflatten(1, (-1, values)).movedim(2, -1)
    return Parts(boxes[..., 0:2], boxes[..., 2:4], boxes[..., 4], boxes[..., 5:])


def coordinates(parts: Parts) -> Tensor:
    """Return what a coordinate loss compares, [B, A, GH, GW, 4]: the place in the cell, tw, th."""
    return torch.cat([parts.offsets.sigmoid(), parts.sizes], dim=-1)


def decode(parts: Parts, anchors: Tensor) -> Tensor:
    """Return boxes [B, A, GH, GW, 4] (x, y, w, h): centre and size as shares of the image.

    YOLO9000, section 2: x = (sigmoid(tx) + column) / GW, w = exp(tw) * anchor's w / GW; y and h
    likewise. `anchors` [A, 2] are (w, h) in cells. tw and th above 10 count as 10, so that no
    box is infinite.
    """
    rows, columns = parts.objectness.shape[2:]
    kind = {"dtype": anchors.dtype, "device": anchors.device}
    x, y = torch.arange(columns, **kind), torch.arange(rows, **kind)
    corners = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    cells = corners.new_tensor([columns, rows])
    centres = (parts.offsets.sigmoid() + corners) / cells
    sizes = parts.sizes.clamp(max=LARGEST).exp() * anchors[:, None, None] / cells
    return torch.cat([centres, sizes], dim=-1)


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Return the IoU [N, A] of boxes of `sizes` [N, 2] and `anchors` [A, 2] that share a corner."""
    common = torch.minimum(sizes[:, None], anchors).prod(-1)
    return common / (sizes.prod(-1)[:, None] + anchors.prod(-1) - common)


def anchor_table(anchors: Sequence[Sequence[float]]) -> Tensor:
    """Return anchors, pairs of width and height in cells, as [A, 2] (float32).

    ValueError if there are none, or one is not a pair of finite numbers above 0.
    """
    for anchor in anchors:
        if len(anchor) != 2 or not all(0 < side < math.inf for side in anchor):
            wanted = "a width and a height in cells, such as [1.3, 1.7]"
            raise ValueError(f"anchors: {list(anchor)} is not {wanted}")
    if not anchors:
        raise ValueError("anchors: none given: `kdx anchors` finds some for a data set")
    return torch.tensor([list(map(float, anchor)) for anchor in anchors])
