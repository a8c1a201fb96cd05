"""Pascal VOC, and what lies in its layout: photographs with boxes (Everingham et al. 2010)."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from kdx.data.decode import read_header, suffixes
from kdx.data.sets.boxed import (
    ANCHORS,
    Sample,
    Samples,
    box_data,
    fit_objects,
    objects_of,
    read_samples,
)
from kdx.data.sets.reading import every_of
from kdx.data.sets.voc_xml import given_size, read_annotation
from kdx.protocols import ImageData
from kdx.util.words import listed, repeated

__all__ = ["voc"]

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
Files = tuple[str, str]  # an image and its annotation


def voc(
    *,
    root: str,
    size: int | tuple[int, int] = 416,
    anchors: Sequence[tuple[float, float]] = ANCHORS,
    train: str | Sequence[str] = ("2007_trainval", "2012_trainval"),
    test: str | Sequence[str] = "2007_test",
    classes: Sequence[str] | Literal["auto"] | None = None,
    other: Literal["refuse", "ignore"] = "refuse",
    invalid: Literal["refuse", "clip"] = "refuse",
) -> ImageData:
    """Open images with boxes in VOC's layout, as torchvision's VOCDetection finds them.

    `root` holds VOCdevkit. `train` and `test` are splits as <year>_<image set>, one or several.
    `size` is (height, width) or a side, which a network sees, in values from 0 to 1 as YOLO's do;
    `anchors` are widths and heights in cells of the grid. `classes` are VOC's 20, others by name,
    or all that there are, by name ("auto"). Objects of other classes are refused, or left out and
    counted in the notes (`other: ignore`). Boxes that reach more than a pixel beyond the image are
    refused, or clipped (`invalid: clip`); those that enclose nothing of it are left out.

    Every annotation and the header of every image are read now. ValueError lists what cannot be
    read, invalid boxes, and unknown classes.
    """
    listed_train, listed_test = every_of(partial(_listed, root), (train, test))
    parts = {"train": listed_train, "test": listed_test}
    samples = read_samples("voc", partial(_sample, clip=invalid == "clip"), parts)
    known, by = _classes(classes, samples), "as <size> says"
    return box_data("voc", samples, known, size=size, anchors=anchors, by=by, other=other)


def _listed(root: str, splits: str | Sequence[str]) -> list[Files]:
    """Return image and annotation of each sample in the splits, in order."""
    names = [splits] if isinstance(splits, str) else splits
    files = [pair for part in every_of(partial(_split, root), names) for pair in part]
    if twice := repeated([image for image, _ in files]):
        raise ValueError(f"voc: duplicate images in {', '.join(names)}: {listed(twice)}")
    return files


def _split(root: str, name: str) -> list[Files]:
    from torchvision.datasets.voc import DATASET_YEAR_DICT, VOCDetection

    year, _, images = name.partition("_")
    try:
        found = VOCDetection(root, year=year, image_set=images)
    except RuntimeError as error:
        folder = Path(root, DATASET_YEAR_DICT[year]["base_dir"])
        raise ValueError(f"voc: {name}: no folder {str(folder)!r}: set root") from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"voc: no split {name!r} in {root!r}: {str(error).rstrip('.')}. Splits are "
            "<year>_<image set>, as 2007_trainval; sets are train, val, trainval and, of 2007, test"
        ) from error
    pairs = zip(_existing(found.images), found.annotations, strict=True)
    return [files for files in pairs if Path(files[0]).suffix]  # an empty line has none


def _existing(images: Sequence[str]) -> Iterator[str]:
    """Yield the images, which VOC ends in .jpg, or those of another suffix that lie there."""
    beside: dict[str, list[str]] = {}
    for folder in {os.path.dirname(image) for image in images}:
        for path in Path(folder).glob("*.*"):
            if path.suffix.lower() in suffixes():
                beside.setdefault(str(path.with_suffix("")), []).append(str(path))
    for image in images:
        found = beside.get(str(Path(image).with_suffix("")), [])
        if image not in found and len(found) > 1:
            raise ValueError(f"voc: {image} is missing, and several are like it: {listed(found)}")
        yield image if image in found or not found else found[0]


def _sample(files: Files, *, clip: bool) -> Sample:
    """Read an annotation, and the header of its image, and fit its objects to it."""
    image, annotation = files
    header = read_header(image)
    try:
        given = given_size(annotation) if header.orientation > 1 else None
        size = header.annotated(given)
        objects = enumerate(read_annotation(annotation, size), 1)
        placed = [(f"object {number}, {each.name!r}", each) for number, each in objects]
        found, empty = fit_objects(placed, size, clip=clip)
    except ValueError as error:
        raise ValueError(f"{annotation}: {error}") from error
    empty = [f"{annotation}: {place}" for place in empty]
    return Sample(image, annotation, header, size, found, empty)


def _classes(classes: Sequence[str] | Literal["auto"] | None, samples: Samples) -> list[str]:
    if classes is None:
        return list(CLASSES)
    if classes == "auto":
        return sorted({each.name for each in objects_of(samples)})
    if twice := repeated(classes):
        raise ValueError(f"voc: duplicate classes: {', '.join(twice)}")
    return list(classes)
