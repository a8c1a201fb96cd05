"""Boxes around objects, found on a grid. B: batch, A: anchors, C: classes, GH, GW: the grid."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kdx.detection import Detections, anchor_table, detect, split
from kdx.detection.average_precision import coco_available
from kdx.protocols import ClassMeter, ClassReport, ImageSource, Meter
from kdx.tasks.classification import shape_of
from kdx.util.words import counted

CHANCE = 0.005  # mAP: of scenes, networks with random weights find up to 0.3%
SURE = 0.3  # the score of what is shown, the objectness of what is decided
SMALLEST = 480  # pixels of a panel's longer side at least
LINES = 16  # a panel is as wide as this many lines are high: read on a phone, too, two in a row
TRUTH, FOUND = "lime", "yellow"


@runtime_checkable
class BoxSource(Protocol):
    """Images with objects: `boxes[i]` [n, 6] (float32), as those of `kdx.data.BoxImages`."""

    boxes: Sequence[Tensor]


class Detection:
    """Boxes on a grid as of YOLOv2: networks output [B, A * (5 + C), GH, GW].

    Targets are [B, M, 6]: see `kdx.protocols.Task`. `anchors` are (width, height) in cells;
    ValueError for invalid ones. `notes` says if pycocotools is missing, for COCO's metrics.
    """

    spatial = True

    def __init__(self, *, classes: Sequence[str], anchors: Sequence[Sequence[float]]) -> None:
        self.classes, self.anchors = list(classes), anchor_table(anchors)
        self.facts: Mapping[str, Any] = {
            "num_classes": len(self.classes),
            "anchors": [list(map(float, anchor)) for anchor in anchors],
        }
        self.chance = CHANCE
        is_there, missing = coco_available(), "pycocotools is not installed: COCO's mAP is left out"
        self.metrics: Mapping[str, str] = {"map": "mAP (VOC 2007)"}
        self.metrics |= {"map_coco": "mAP (COCO)"} if is_there else {}
        self.notes: Sequence[str] = [] if is_there else [missing]

    def check(self, output: object, images: Tensor) -> None:
        """Raise ValueError if `output` is not on a grid of the images' shape, or has other C."""
        height, width = images.shape[2:]
        channels = len(self.anchors) * (5 + len(self.classes))
        shape = shape_of(output)
        if not isinstance(output, Tensor) or shape[:2] != [len(images), channels]:
            n, classes = len(images), counted(len(self.classes), "class", "classes")
            wanted = f"[{n}, {channels}, rows, columns]"
            each = f"{counted(len(self.anchors), 'anchor')} of 5 + {classes}"
            raise ValueError(f"its output for {n} images is {shape}, not {wanted}: {each}")
        if len(shape) != 4 or not _square_cells((height, width), output.shape[2:]):
            raise ValueError(
                f"its output for images of {height} x {width} is {shape}: the cells of a grid must "
                "be square, of whole pixels: use sides that are multiples of the network's stride"
            )

    def check_source(self, source: ImageSource) -> None:
        """Raise ValueError naming the first sample with an invalid box."""
        if not isinstance(source, BoxSource):
            raise ValueError(f"{type(source).__name__} has no boxes: detection needs a BoxSource")
        rows = torch.cat([torch.zeros(0, 6), *source.boxes])
        kinds, centres, sizes = rows[:, 0], rows[:, 1:3], rows[:, 3:5]
        known = (kinds >= 0) & (kinds < len(self.classes)) & (kinds == kinds.floor())
        inside = ((centres >= 0) & (centres <= 1) & (sizes > 0) & (sizes <= 1)).all(1)
        bad = (~(known & inside)).nonzero().flatten()
        if len(bad):
            first = int(bad[0])
            counts = torch.tensor([len(boxes) for boxes in source.boxes])
            index = int(torch.repeat_interleave(counts)[first])
            box = [round(value, 4) for value in rows[first].tolist()]
            raise ValueError(
                f"{source.name(index)}: invalid box {box}: it must be (class, x, y, w, h, "
                f"difficult) with a class in [0, {len(self.classes)}), the centre in the image and "
                f"a size above 0, at most 1; {len(bad):,} of {len(rows):,} boxes are wrong"
            )

    def meter(self, device: torch.device) -> Meter:
        """Return a meter of all boxes with a score above 0.005, as darknet; 100 an image, as COCO.

        Its metrics, in [0, 1]: see `kdx.detection.metric`. 0.0 if there is nothing to find.
        """
        return _Meter(self, device)

    def class_meter(self, device: torch.device) -> ClassMeter:
        """Return a meter of the average precision of each class (VOC 2007)."""
        return _ClassMeter(self, device)

    def detect(self, output: Tensor, **how: Any) -> list[Detections]:
        """Return the detections of each image: see `kdx.detection.detect`."""
        return detect(output, num_classes=len(self.classes), anchors=self.anchors, **how)

    def decide(self, output: Tensor) -> Tensor:
        """Return the likeliest class of each box, -1 below an objectness of 0.3: [B, A, GH, GW]."""
        parts = split(output, num_classes=len(self.classes))
        return parts.classes.argmax(-1).where(parts.objectness.sigmoid() >= SURE, -1)

    def draw(self, image: Tensor, target: Tensor, output: Tensor) -> Tensor:
        """Draw the objects in green, and beside them what is found in yellow, with its scores."""
        found = self.detect(output[None].float(), score=SURE)[0]
        rows = _objects(target)
        truth = [self.classes[int(row[0])] + "?" * bool(row[1] > 0) for row in rows]
        pairs = zip(found.classes, found.scores, strict=True)
        seen = [f"{self.classes[int(kind)]} {score:.2f}" for kind, score in pairs]
        panels = _drawn(image, rows[:, 2:], truth, TRUTH), _drawn(image, found.boxes, seen, FOUND)
        return torch.cat(panels, dim=2)


def _square_cells(image: Sequence[int], grid: Sequence[int]) -> bool:
    return min(grid) > 0 and image[0] % grid[0] == 0 and image[0] * grid[1] == image[1] * grid[0]


def _objects(target: Tensor) -> Tensor:
    """Return the objects of an image [T, 6]: class, difficult, corners; without padding."""
    from torchvision.ops import box_convert

    rows = target[target[:, 0] >= 0].float()
    return torch.cat([rows[:, [0, 5]], box_convert(rows[:, 1:5], "cxcywh", "xyxy")], dim=1)


def _drawn(image: Tensor, boxes: Tensor, labels: list[str], color: str) -> Tensor:
    """Draw boxes [N, 4], shares of the image, on a copy that is large enough to read."""
    factor = max(1, round(SMALLEST / max(image.shape[1:])))
    large = F.interpolate(image[None], scale_factor=factor)[0].permute(1, 2, 0)
    canvas = Image.fromarray(large.contiguous().numpy())
    draw, text = ImageDraw.Draw(canvas), max(SMALLEST, canvas.width) // LINES
    font = ImageFont.load_default(size=text)
    corners = boxes.clamp(0, 1).cpu() * torch.tensor(canvas.size * 2)
    for box, label in zip(corners.round().int().tolist(), labels, strict=True):
        draw.rectangle(box, outline=color, width=text // 10)
        place = (max(0, min(box[0], canvas.width - font.getlength(label))), box[1])
        draw.rectangle(draw.textbbox(place, label, font=font), fill=color)
        draw.text(place, label, fill="black", font=font)
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


class _Meter:
    """Each image counted once, over all processes."""

    def __init__(self, task: Detection, device: torch.device, *, by_class: bool = False) -> None:
        from kdx.detection.metric import MeanAveragePrecision  # here: torchmetrics is slow to come

        self.task, classes = task, len(task.classes)
        self.metric = MeanAveragePrecision(num_classes=classes, by_class=by_class).to(device)
        self.metric.update([], [])

    def update(self, output: Tensor, target: Tensor) -> None:
        found = self.task.detect(output, score=0.005)
        rows = [torch.column_stack([each.classes, each.scores, each.boxes]) for each in found]
        self.metric.update(rows, [_objects(each) for each in target])

    def compute(self) -> dict[str, float]:
        return self.metric.compute()


class _ClassMeter:
    def __init__(self, task: Detection, device: torch.device) -> None:
        self.meter = _Meter(task, device, by_class=True)
        self.update = self.meter.update

    def compute(self) -> ClassReport:
        found = self.meter.metric.compute()
        values = [None if isnan(value) else value for value in found["ap"]]
        return ClassReport({"ap": ("AP (VOC 2007)", values)}, found["count"])
