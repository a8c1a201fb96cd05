"""Detection on a grid (YOLO9000: Redmon & Farhadi 2016, sections 2 and 3).

B: batch, M: the most objects of an image, N = A * GH * GW: boxes of an image, C: classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.detection import Assignment, Parts, anchor_table, assign, coordinates, decode, split
from kdx.losses.shared import checked_scales, full_precision
from kdx.protocols import Outputs

__all__ = ["Yolo"]


class Yolo:
    """Half the weighted squares of YOLOv2, summed over an image, and the cross-entropy of classes.

    The terms and weights are those of darknet's region layer, and so are the gradients:
    `coord_scale` (2 - w h) |(sigmoid(tx), sigmoid(ty), tw, th) - object's|^2 / 2 in the slot of
    each object, where w h is its share of the image; `object_scale` (IoU - objectness)^2 / 2 there,
    with the IoU of the box as it is predicted, a constant (`rescore: false`: 1 in its place);
    `noobject_scale` objectness^2 / 2 in all slots that are no object's and whose box has an IoU
    of at most `threshold` with every object; `class_scale` -log softmax(classes)[object's].
    Difficult objects are not learned, and no box is wrong because of them. Slots are those of
    `kdx.detection.assign`. darknet's pull towards the anchors at first is left out. ValueError for
    invalid anchors, negative weights and a threshold outside of [0, 1].
    """

    def __init__(
        self,
        *,
        num_classes: int,
        anchors: Sequence[Sequence[float]],
        coord_scale: float = 1.0,
        object_scale: float = 5.0,
        noobject_scale: float = 1.0,
        class_scale: float = 1.0,
        threshold: float = 0.6,
        rescore: bool = True,
    ) -> None:
        self.scales = checked_scales(
            coord_scale=coord_scale,
            object_scale=object_scale,
            noobject_scale=noobject_scale,
            class_scale=class_scale,
        )
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold: {threshold} is not an IoU in [0, 1]")
        self.num_classes, self.anchors = num_classes, anchor_table(anchors)
        self.threshold, self.rescore = threshold, rescore

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; logits [B, A * (5 + C), GH, GW], or ValueError, `target` [B, M, 6]."""
        return _loss(student.logits, target, self)


@full_precision
def _loss(output: Tensor, target: Tensor, given: Yolo) -> Tensor:
    parts, anchors = split(output, num_classes=given.num_classes), given.anchors.to(output)
    if parts.objectness.shape[1] != len(anchors):
        found = f"output {list(output.shape)} has A = {parts.objectness.shape[1]} anchors"
        raise ValueError(f"yolo: the {found}, but the data have A = {len(anchors)}")
    target = F.pad(target.to(output.dtype), (0, 0, 0, 1), value=-1)  # one row at least
    found = assign(target, anchors, grid=(output.shape[2], output.shape[3]))
    overlaps = _overlaps(parts, anchors, target).masked_fill(~found.real[:, None], 0)
    terms = {
        "coord_scale": _coordinates(parts, found, target),
        "object_scale": _objects(parts, found, overlaps if given.rescore else None),
        "noobject_scale": _background(parts, found, overlaps, threshold=given.threshold),
        "class_scale": _classes(parts, found, target),
    }
    per_image = torch.stack([given.scales[name] * term for name, term in terms.items()])
    return per_image.sum(0).mean()


@torch.no_grad()
def _overlaps(parts: Parts, anchors: Tensor, target: Tensor) -> Tensor:
    """Return the IoU [B, N, M] of predicted boxes and objects."""
    from torchvision.ops import box_convert, box_iou

    boxes = box_convert(decode(parts, anchors).flatten(1, 3), "cxcywh", "xyxy")
    return torch.vmap(box_iou)(boxes, box_convert(target[..., 1:5], "cxcywh", "xyxy"))


def _coordinates(parts: Parts, found: Assignment, target: Tensor) -> Tensor:
    """Each term returns [B], the sum over an image."""
    predicted = _at(found.slots, coordinates(parts).flatten(1, 3))
    squares = (predicted - found.coordinates).square().sum(-1) / 2
    small_count_more = 2 - target[..., 3] * target[..., 4]
    return (squares * small_count_more).where(found.positive, 0).sum(1)


def _objects(parts: Parts, found: Assignment, overlaps: Tensor | None) -> Tensor:
    predicted = parts.objectness.flatten(1).sigmoid().gather(1, found.slots)
    goal = 1 if overlaps is None else overlaps.gather(1, found.slots[:, None])[:, 0]
    return ((goal - predicted).square() / 2).where(found.positive, 0).sum(1)


def _background(parts: Parts, found: Assignment, overlaps: Tensor, *, threshold: float) -> Tensor:
    objectness = parts.objectness.flatten(1).sigmoid()
    objects = torch.zeros_like(objectness).scatter_add(1, found.slots, found.real.to(objectness))
    empty = (objects == 0) & (overlaps.amax(2) <= threshold)
    return (objectness.square() / 2).where(empty, 0).sum(1)


def _classes(parts: Parts, found: Assignment, target: Tensor) -> Tensor:
    logits = _at(found.slots, parts.classes.flatten(1, 3))
    kinds = target[..., 0].long().clamp(min=0)
    entropy = F.cross_entropy(logits.transpose(1, 2), kinds, reduction="none")
    return entropy.where(found.positive, 0).sum(1)


def _at(slots: Tensor, values: Tensor) -> Tensor:
    """Return the rows of `values` [B, N, ...] at `slots` [B, M]: [B, M, ...]."""
    return values.gather(1, slots[..., None].expand(-1, -1, values.shape[2]))
