"""Mean average precision of a detector, over all processes. Brings torchmetrics.

D: detections, T: objects, of an image.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kdx.detection.average_precision import average_precision, coco, coco_available, mean


class MeanAveragePrecision(Metric):
    """Keeps the detections and the objects of all images, and measures them at the end.

    Each process updates with its own images, however many; one that has none updates once with
    empty lists, since the processes exchange rows of equal width.
    """

    found: list[Tensor]
    found_counts: list[Tensor]
    objects: list[Tensor]
    objects_counts: list[Tensor]

    def __init__(self, *, num_classes: int, by_class: bool = False) -> None:
        super().__init__()
        self.num_classes, self.by_class = num_classes, by_class
        for name in ("found", "found_counts", "objects", "objects_counts"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, found: Sequence[Tensor], objects: Sequence[Tensor]) -> None:
        """Take the rows [D, 6] and [T, 6] of each image, as `average_precision` has them."""
        for name, rows in (("found", found), ("objects", objects)):
            counts = torch.tensor([len(each) for each in rows], dtype=torch.int64)
            getattr(self, name).append(torch.cat([torch.zeros(0, 6, device=self.device), *rows]))
            getattr(self, f"{name}_counts").append(counts.to(self.device))

    def compute(self) -> dict[str, Any]:
        """Return `map` (VOC 2007), `map_area` (VOC 2010) and, if it is there, what `coco` gives.

        With `by_class`, "ap" (VOC 2007), NaN where nothing is to find, and "count" of each class.
        """
        found = _by_image(self.found, self.found_counts)
        objects = _by_image(self.objects, self.objects_counts)
        voc = average_precision(found, objects, num_classes=self.num_classes)
        if self.by_class:
            rows = torch.cat([torch.zeros(0, 6), *objects])
            counts = rows[rows[:, 1] <= 0, 0].long().bincount(minlength=self.num_classes)
            return {"ap": voc.eleven.tolist(), "count": counts.tolist()}
        measured = {"map": mean(voc.eleven), "map_area": mean(voc.area)}
        return measured | (coco(found, objects) if coco_available() else {})


def _by_image(rows: list[Tensor], counts: list[Tensor]) -> list[Tensor]:
    """Undo the concatenation, over images and processes alike; on the CPU."""
    return list(dim_zero_cat(rows).cpu().split(dim_zero_cat(counts).tolist()))
