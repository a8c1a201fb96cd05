"""Label files of YOLO: a line for each object, class and box or polygon as shares of the image."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdx.data.sets.boxed import Edges, fit
from kdx.data.sets.voc_xml import VocObject
from kdx.util.words import listed


class Labels(NamedTuple):
    """An image's objects, the places of those left out, and how many were polygons or repeated."""

    objects: Sequence[VocObject]
    empty: Sequence[str] = ()
    polygons: int = 0
    repeats: int = 0


def label_file(image: str) -> str:
    """Return where an image's labels are: "labels" for the last "images" in its path, or beside.

    Ultralytics' rule; beside the image also if that place has no file.
    """
    beside = Path(image).with_suffix(".txt")
    parts = list(beside.parts)
    if "images" not in parts[:-1]:
        return str(beside)
    parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    other = Path(*parts)
    return str(other if other.exists() or not beside.exists() else beside)


def read_labels(path: str, classes: Sequence[str], size: tuple[int, int], *, clip: bool) -> Labels:
    """Read the objects of an image of `size` (height, width); none if there is no file.

    A line is "class x y w h", centre and size, or "class x1 y1 x2 y2 x3 y3 ...", a polygon, of
    which the box around it is taken. Lines that repeat an earlier one are left out. ValueError
    lists, by line, all that is wrong; boxes as `kdx.data.sets.boxed.fit`.
    """
    if not os.path.lexists(path):
        return Labels([])
    try:
        lines = Path(path).read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text: {error}") from error
    objects, empty, problems, seen, polygons = [], [], [], set(), 0
    found = [(i, tuple(line.split())) for i, line in enumerate(lines, 1) if line.strip()]
    for number, words in found:
        if words in seen:
            continue
        seen.add(words)
        place = f"{path}:{number}"
        try:
            kind, edges = _object(words, classes, size)
            fitted = fit(edges, size, clip=clip)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        polygons += len(words) > 5
        if fitted is None:
            empty.append(place)
        else:
            objects.append(VocObject(classes[kind], fitted, False))
    if problems:
        raise ValueError(listed(problems))
    return Labels(objects, empty, polygons, len(found) - len(seen))


def _object(
    words: Sequence[str], classes: Sequence[str], size: tuple[int, int]
) -> tuple[int, Edges]:
    """Return class and edges in pixels."""
    try:
        kind, *numbers = map(float, words)
    except ValueError:
        raise ValueError(f"not numbers: {' '.join(words)!r}") from None
    if not kind.is_integer() or not 0 <= kind < len(classes):
        last = f"names has 0 to {len(classes) - 1}"
        raise ValueError(f"class {words[0]} is not a class: {last}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"not finite: {' '.join(words)!r}")
    height, width = size
    if max(numbers, default=0) > 2:
        raise ValueError(f"in pixels: {' '.join(words)!r}; divide by the image's width, height")
    if len(numbers) == 4:
        x, y, w, h = numbers
        if w < 0 or h < 0:
            raise ValueError(f"negative size: {' '.join(words)!r}")
        corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[::2], numbers[1::2]
        corners = [min(xs), min(ys), max(xs), max(ys)]
    else:
        wanted = "class x y w h, or class and the x y of three points or more"
        more = " (a confidence? remove it)" if len(numbers) == 5 else ""
        raise ValueError(f"{len(words)} numbers{more}: a line is {wanted}")
    left, top, right, bottom = corners
    return int(kind), (left * width, top * height, right * width, bottom * height)
