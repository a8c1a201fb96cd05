"""COCO's panoptic files (Kirillov et al. 2019), as classes of pixels.

A JSON file lists, for each image, a PNG and its segments: a pixel's segment is R + 256 G + 65536 B,
0 for none. A pixel gets its segment's category, as panopticapi's panoptic2semantic_segmentation.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kdx.data.masks import IDS, MaskImages
from kdx.data.sets.boxed import other_classes
from kdx.data.sets.coco_json import Content, invalid, read_images, whole
from kdx.data.sets.reading import MEAN, STD, beside, mask_notes, shared_images
from kdx.protocols import IGNORED, UNKNOWN, ImageData, InputSpec
from kdx.util.words import counted, listed

VOID = IDS - 1  # the number of pixels without a segment, and of those of other classes
MOST = 256**3


class Panoptic(NamedTuple):
    """An image, its mask, and the categories of the mask's segments by their ids."""

    image: str
    mask: str
    segments: Mapping[int, str]


def read_panoptic(
    file: Path, content: Content, names: Mapping[int, str], folder: Path, masks: Path
) -> list[Panoptic]:
    """Return the images of a file in the order of their ids; ValueError lists what is wrong."""
    images, faulty, problems = read_images(file, content, folder)
    found: dict[int, Panoptic] = {}
    for index, each in enumerate(content["annotations"]):
        number, name = whole(each.get("image_id")), each.get("file_name")
        place = f"annotations[{index}], image {each.get('image_id')}"
        if str(each.get("image_id")) in faulty:
            continue
        if number is None or number not in images:
            problems.append(f"{place}: `images` has no such id")
        elif number in found:
            problems.append(f"{place}: the image has an annotation already")
        elif not isinstance(name, str) or not isinstance(each.get("segments_info"), list):
            problems.append(f"{place}: no file_name and segments_info: not of a panoptic file")
        else:
            segments = _segments(place, each["segments_info"], names, problems)
            found[number] = Panoptic(images[number][0], beside(masks, name), segments)
    lacking = [path for number, (path, _) in images.items() if number not in found]
    if lacking and not problems:
        problems.append(f"{counted(len(lacking), 'image')} without annotation: {listed(lacking)}")
    invalid(file, problems)
    return [found[number] for number in images]


def _segments(
    place: str, given: Sequence[Any], names: Mapping[int, str], problems: list[str]
) -> dict[int, str]:
    found: dict[int, str] = {}
    for index, each in enumerate(given):
        each = each if isinstance(each, dict) else {}
        number, kind = whole(each.get("id")), whole(each.get("category_id"))
        where = f"{place}, segments_info[{index}]"
        if number is None or not 0 < number < MOST or number in found:
            problems.append(f"{where}: id {each.get('id')!r} is not a segment's, or comes twice")
        elif kind is None or kind not in names:
            problems.append(f"{where}: no category of id {each.get('category_id')!r}")
        else:
            found[number] = names[kind]
    return found


def panoptic_data(
    parts: Sequence[Sequence[Panoptic]],
    content: Content,
    classes: Sequence[str],
    *,
    size: int | tuple[int, int],
    other: Literal["refuse", "ignore"],
) -> ImageData:
    """Return images with masks; the categories in `content` have the colours.

    ValueError for masks that cannot be read or are of another size than their image.
    """
    from kdx.tasks.segmentation import Segmentation  # here: it takes long to import

    if len(classes) > VOID:
        raise ValueError(f"coco: {len(classes)} classes: at most {VOID} can be in a mask")
    names = Counter(name for part in parts for each in part for name in each.segments.values())
    notes = [*other_classes("coco", names.elements(), classes, other=other, every="null")]
    files = ((each.image, each.mask) for part in parts for each in part)
    notes += mask_notes("coco", files, segments=True)
    notes += shared_images("coco", *([each.image for each in part] for part in parts))
    return ImageData(
        *(_source(part, classes) for part in parts),
        classes=classes,
        input=InputSpec(3, size, MEAN, STD),
        notes=notes,
        task=Segmentation(classes=classes, colors=_colors(content, classes)),
    )


def _source(part: Sequence[Panoptic], classes: Sequence[str]) -> MaskImages:
    numbers = {name: number for number, name in enumerate(classes)}
    table = torch.full((IDS,), UNKNOWN)
    table[: len(classes)], table[VOID] = torch.arange(len(classes)), IGNORED

    def rows(segments: Mapping[int, str]) -> NDArray[np.int64]:
        """Return ids and numbers [n, 2] in the order of ids."""
        found = {0: VOID} | {i: numbers.get(name, VOID) for i, name in segments.items()}
        return np.array(sorted(found.items()), np.int64)

    images, masks = [each.image for each in part], [each.mask for each in part]
    labels, segments = torch.zeros(len(part), dtype=torch.int64), [rows(e.segments) for e in part]
    return MaskImages(images, masks, table, labels, segments)


def _colors(content: Content, classes: Sequence[str]) -> list[tuple[int, int, int]] | None:
    """Return the colours of all classes; None if the file lacks one."""
    by_name = {str(each.get("name")).strip(): each.get("color") for each in content["categories"]}
    colors = [by_name.get(name) for name in classes]
    fit = [
        (c[0], c[1], c[2])
        for c in colors
        if isinstance(c, list) and len(c) == 3 and all(type(v) is int and 0 <= v < 256 for v in c)
    ]
    return fit if len(fit) == len(classes) else None
