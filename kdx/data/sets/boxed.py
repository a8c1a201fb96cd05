"""What data sets of images with boxes share: objects in pixels, to shares of the image."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from kdx.data.boxes import CELL, BoxImages, largest_classes
from kdx.data.decode import Header
from kdx.data.sets.reading import orientation_notes, read_each, shared_images
from kdx.data.sets.voc_xml import VocObject
from kdx.protocols import ImageData, InputSpec
from kdx.util.words import counted, listed

ANCHORS = (  # YOLOv2's for VOC (Redmon and Farhadi 2016), in cells: of its yolov2-voc.cfg
    (1.3221, 1.73145),
    (3.19275, 4.00944),
    (5.05587, 8.09892),
    (9.47112, 4.84053),
    (11.2364, 10.0071),
)

BEYOND = 1.0  # pixels that a box may reach over the image's border: it is clipped

T = TypeVar("T")
Edges = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


class Sample(NamedTuple):
    """An image, its annotation, its header, the size (H, W) it was drawn on, and its objects.

    `notes` are the places of objects that were left out, since they cover nothing of the image.
    """

    image: str
    annotation: str
    header: Header
    size: tuple[int, int]
    objects: Sequence[VocObject]
    notes: Sequence[str] = ()


Samples = Mapping[str, Sequence[Sample]]  # of train and test


def fit(edges: Edges, size: tuple[int, int], *, clip: bool) -> Edges | None:
    """Return edges inside an image of `size` (H, W); None if they enclose nothing of it.

    ValueError for a box that reaches more than a pixel beyond the image, unless `clip`, and for
    edges that are not finite or in the wrong order.
    """
    (left, top, right, bottom), (height, width) = edges, size
    box = f"x from {left:g} to {right:g}, y from {top:g} to {bottom:g}"
    if not all(map(math.isfinite, edges)) or left > right or top > bottom:
        raise ValueError(f"invalid box: {box}")
    inside = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
    over = max(-left, -top, right - width, bottom - height)
    if over > BEYOND and not clip:
        found = f"{box}, image {width} wide and {height} high"
        raise ValueError(f"box outside the image: {found} (invalid: clip clips it)")
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None


def fit_objects(
    objects: Iterable[tuple[str, VocObject]], size: tuple[int, int], *, clip: bool
) -> tuple[list[VocObject], list[str]]:
    """Return objects, given with their places, as `fit`, and the places of those left out.

    ValueError lists all that do not fit, by place.
    """
    found, empty, problems = [], [], []
    for place, each in objects:
        try:
            edges = fit(each.edges, size, clip=clip)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        if edges is None:
            empty.append(place)
        else:
            found.append(each._replace(edges=edges))
    if problems:
        raise ValueError(listed(problems))
    return found, empty


def read_samples(
    origin: str, read: Callable[[T], Sample], parts: Mapping[str, Sequence[T]]
) -> Samples:
    """Return what `read` returns for the items of each part; an item of both is read once."""
    items = list(dict.fromkeys(item for part in parts.values() for item in part))
    found = dict(zip(items, read_each(origin, read, items), strict=True))
    return {name: [found[item] for item in part] for name, part in parts.items()}


def box_data(
    origin: str,
    samples: Samples,
    classes: Sequence[str],
    *,
    size: int | tuple[int, int],
    anchors: Sequence[tuple[float, float]],
    by: str,
    other: Literal["refuse", "ignore"] = "refuse",
    every: str = "auto",
    notes: Iterable[str] = (),
) -> ImageData:
    """Return the data set, with values from 0 to 1 as YOLO's.

    `by` says what decides on images with an EXIF orientation. Objects of other classes are left
    out or, unless `other` is "ignore", refused with a ValueError; `every` is the argument `classes`
    that takes all classes.
    """
    from kdx.tasks.detection import Detection  # here: torchvision takes as long to import as torch

    task = Detection(classes=classes, anchors=anchors)
    spec = InputSpec(3, size, (0.0,) * 3, (1.0,) * 3)
    more = [*_notes(origin, samples, classes, by=by, other=other, every=every)]
    if any(side % CELL for side in spec.hw):
        sides = f"size {size} is not a multiple of {CELL}"
        more.append(f"{origin}: {sides}, YOLO's stride: cells and anchors have other sizes")
    return ImageData(
        *(_source(part, classes) for part in samples.values()),
        classes=classes,
        input=spec,
        notes=[*notes, *more, *task.notes],
        task=task,
    )


def _notes(
    origin: str, samples: Samples, classes: Sequence[str], *, by: str, other: str, every: str
) -> Iterator[str]:
    found = (each.name for each in objects_of(samples))
    yield from other_classes(origin, found, classes, other=other, every=every)
    images = {each.image: each for part in samples.values() for each in part}.values()
    if empty := [place for each in images for place in each.notes]:
        count = counted(len(empty), "object")
        yield f"{origin}: {count} left out, whose boxes cover nothing of the image: {listed(empty)}"
    oriented = [(s.image, s.size != s.header.size) for s in images if s.header.orientation > 1]
    yield from orientation_notes(origin, oriented, by=by)
    yield from shared_images(origin, *([s.image for s in part] for part in samples.values()))
    known = set(classes)
    for part, found in samples.items():
        objects = objects_of({part: found})
        if not any(each.name in known and not each.difficult for each in objects):
            lack = "have no objects of these classes, except difficult ones"
            yield f"{origin}: the {part} images {lack}"


def other_classes(
    origin: str, names: Iterable[str], classes: Sequence[str], *, other: str, every: str
) -> Iterator[str]:
    """Say which of the objects' class names are not of the classes; ValueError if refused."""
    known = set(classes)
    counts = Counter(name for name in names if name not in known)
    text = listed([f"{name!r} ({counted(n, 'object')})" for name, n in counts.most_common()])
    if text and other == "refuse":
        raise ValueError(
            f"{origin}: objects of unknown classes: {text}. Add them to classes, take all classes "
            f"that there are (classes: {every}), or ignore these objects (other: ignore)"
        )
    if text:
        yield f"{origin}: ignored objects of other classes: {text}"


def objects_of(samples: Samples) -> Iterator[VocObject]:
    """Yield the objects of all images."""
    return (found for part in samples.values() for each in part for found in each.objects)


def _source(samples: Sequence[Sample], classes: Sequence[str]) -> BoxImages:
    numbers = {name: number for number, name in enumerate(classes)}
    boxes = [_boxes(sample, numbers) for sample in samples]
    paths, annotations = [each.image for each in samples], [each.annotation for each in samples]
    labels, sizes = largest_classes(boxes, classes=len(classes)), [each.size for each in samples]
    return BoxImages(paths, boxes, labels, annotations, sizes)


def _boxes(sample: Sample, numbers: Mapping[str, int]) -> Tensor:
    """Return [n, 6]: class, centre and size as shares of the image, difficult."""
    height, width = sample.size
    rows = []
    for name, (left, top, right, bottom), difficult in sample.objects:
        if name in numbers:
            centre = (left + right) / 2 / width, (top + bottom) / 2 / height
            sides = (right - left) / width, (bottom - top) / height
            rows.append((numbers[name], *centre, *sides, difficult))
    return torch.tensor(rows, dtype=torch.float32).view(-1, 6)
