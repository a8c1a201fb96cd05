"""Average precision by the rules of PASCAL VOC (Everingham et al. 2010, section 4.2), and COCO.

D: detections, T: objects, C: classes. Rows of detections are (class, score, x1, y1, x2, y2), of
objects (class, difficult, x1, y1, x2, y2), with corners in any unit; all on the CPU.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

POINTS = 11


class AveragePrecision(NamedTuple):
    """Of each class [C] (float64), NaN if there is no object to find.

    `eleven` is the mean of the precision at the recalls 0, 0.1, ..., 1 (VOC 2007), `area` the area
    under the curve (VOC 2010 and later); at a recall the best precision there or beyond counts.
    """

    eleven: Tensor
    area: Tensor


def average_precision(
    found: Sequence[Tensor], objects: Sequence[Tensor], *, num_classes: int, iou: float = 0.5
) -> AveragePrecision:
    """Return the average precision of each class from rows [D, 6] and [T, 6] of each image.

    By the devkit's rule: by falling confidence, each detection is matched with the object of its
    class and image of the best IoU. It is false below `iou`, and if a more confident one matched
    that object; it does not count if the object is difficult, which need not be found. Boxes are
    x2 - x1 wide, a pixel less than in the devkit.
    """
    found, objects = ([torch.zeros(0, 6), *rows] for rows in (found, objects))
    matches, before = [], 0
    for seen, there in zip(found, objects, strict=True):
        match = _best_object(seen, there, iou)
        matches.append(torch.where(match >= 0, match + before, -1))
        before += len(there)
    detections, truths = torch.cat(found), torch.cat(objects)
    order = detections[:, 1].argsort(descending=True, stable=True)
    counted, true = _judged(torch.cat(matches)[order], truths[:, 1] > 0)
    kinds = detections[order, 0]
    curves = []
    for number in range(num_classes):
        mine = counted & (kinds == number)
        positives = ((truths[:, 0] == number) & (truths[:, 1] <= 0)).sum()
        curves.append(_areas(true[mine], int(positives)))
    return AveragePrecision(*torch.tensor(curves, dtype=torch.float64).reshape(-1, 2).T)


def mean(values: Tensor) -> float:
    """Return the mean of [C] over the classes that have objects, 0.0 if none has."""
    return float(values.nanmean().nan_to_num(0.0))


def coco_available() -> bool:
    """Whether pycocotools is installed."""
    return find_spec("pycocotools") is not None


def coco(found: Sequence[Tensor], objects: Sequence[Tensor]) -> dict[str, float]:
    """Return `map_coco`, the mean over the IoUs 0.5, 0.55, ..., 0.95, and `map_coco_50`.

    From rows of each image, as `average_precision`, by pycocotools; 0.0 if there is nothing to
    find. Difficult objects count as COCO's crowds: a detection there is neither right nor wrong.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(sync_on_compute=False)  # the rows are those of all processes
    metric.warn_on_many_detections = False
    metric.update(
        [
            {"boxes": rows[:, 2:], "scores": rows[:, 1], "labels": rows[:, 0].long()}
            for rows in found
        ],
        [
            {"boxes": rows[:, 2:], "labels": rows[:, 0].long(), "iscrowd": rows[:, 1].long()}
            for rows in objects
        ],
    )
    measured = metric.compute()
    return {f"map_coco{end}": max(0.0, float(measured[f"map{end}"])) for end in ("", "_50")}


def _best_object(found: Tensor, objects: Tensor, iou: float) -> Tensor:
    """Return for each detection of an image the number of its object, -1 without one: [D]."""
    from torchvision.ops import box_iou

    if not len(objects):
        return torch.full((len(found),), -1)
    overlaps = box_iou(found[:, 2:], objects[:, 2:])
    overlaps = overlaps.where(found[:, None, 0] == objects[:, 0], -1)
    best, number = overlaps.max(dim=1)
    return torch.where(best >= iou, number, -1)


def _judged(matches: Tensor, difficult: Tensor) -> tuple[Tensor, Tensor]:
    """Return which detections [D], by falling confidence, count, and which are true."""
    hit = matches >= 0
    numbers = torch.arange(len(matches))
    first = torch.full((len(difficult) + 1,), len(matches))
    first = first.scatter_reduce(0, matches.where(hit, len(difficult)), numbers, "amin")
    ignored = torch.zeros_like(hit)
    ignored[hit] = difficult[matches[hit]]
    return ~ignored, hit & ~ignored & (first[matches] == numbers)


def _areas(true: Tensor, positives: int) -> tuple[float, float]:
    """Return both average precisions of a class, of its detections by falling confidence."""
    if not positives:
        return torch.nan, torch.nan
    hits = true.cumsum(0)
    precision = hits.double() / torch.arange(1, len(true) + 1)
    best = precision.flip(0).cummax(0).values.flip(0)
    reached = [best[hits * (POINTS - 1) >= k * positives] for k in range(POINTS)]
    eleven = sum(float(values[0]) for values in reached if len(values)) / POINTS
    return eleven, float(best[true].sum()) / positives
