"""Mean average precision as COCO has it, by torchmetrics and pycocotools (an extra)."""

from collections.abc import Sequence
from importlib.util import find_spec

from torch import Tensor

__all__ = ["coco", "coco_available"]


def coco_available() -> bool:
    """Whether pycocotools is installed."""
    return find_spec("pycocotools") is not None


def coco(found: Sequence[Tensor], objects: Sequence[Tensor]) -> dict[str, float]:
    """Return `map_coco`, the mean over the IoUs 0.5, 0.55, ..., 0.95, and `map_coco_50`.

    From rows of each image, as `average_precision` has them. Difficult objects count as COCO's
    crowds: what is found there is neither right nor wrong. 0.0 where there is nothing to find.
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
    return {
        "map_coco": max(0.0, float(measured["map"])),
        "map_coco_50": max(0.0, float(measured["map_50"])),
    }
