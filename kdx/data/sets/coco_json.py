"""Instances files of COCO: JSON with lists of images, annotations and categories."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdx.data.sets.labelling import repeated
from kdx.util.words import counted, listed

__all__ = ["Entry", "read_categories", "read_content", "read_entries"]

SIDES = ("height", "width")
Box = tuple[float, float, float, float]  # left, top, width, height
Found = tuple[str, str, Box, bool]  # of an object: its place in the file, class, box, if a crowd
Content = Mapping[str, Sequence[Mapping[str, Any]]]


class Entry(NamedTuple):
    """An image of a file: its path, its size (H, W) if the file gives one, and its objects."""

    path: str
    file: str
    size: tuple[int, int] | None
    objects: Sequence[Found]


def read_content(path: Path) -> Content:
    """Return the three lists of a file; ValueError for one that is not JSON, or has others."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"coco: {path}: {error.strerror}: set root, annotations") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"coco: {path}:{error.lineno}: invalid JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"coco: {path}: invalid JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        value = content.get(key) if isinstance(content, dict) else None
        if not isinstance(value, list):
            raise ValueError(f"coco: {path}: no list {key!r}: not an instances file of COCO")
        if odd := [i for i, each in enumerate(value) if not isinstance(each, dict)]:
            raise ValueError(f"coco: {path}: {key}[{odd[0]}] is not an object")
    return content


def read_categories(file: Path, content: Content) -> dict[int, str]:
    """Return the names of categories in the order of their ids."""
    found, problems = {}, []
    for index, each in enumerate(content["categories"]):
        number, name = each.get("id"), each.get("name")
        if not isinstance(number, int) or not isinstance(name, str) or not name.strip():
            problems.append(f"categories[{index}]: no integer id and name: {each}")
        elif number in found or name.strip() in found.values():
            problems.append(f"categories[{index}]: duplicate id {number} or name {name!r}")
        else:
            found[number] = name.strip()
    if problems or not found:
        raise ValueError(f"coco: {file}: {listed(problems, '; ') or 'no categories'}")
    return dict(sorted(found.items()))


def read_entries(
    file: Path, content: Content, names: Mapping[int, str], folder: Path
) -> list[Entry]:
    """Return the images of a file in the order of their ids, as torchvision's CocoDetection."""
    problems: list[str] = []
    images = dict(_images(content["images"], problems))
    objects: defaultdict[int, list[Found]] = defaultdict(list)
    for index, each in enumerate(content["annotations"]):
        place = f"annotations[{index}], id {each.get('id')}"
        image, kind, given = (each.get(key) for key in ("image_id", "category_id", "bbox"))
        if not isinstance(image, int) or image not in images:
            problems.append(f"{place}: no image of id {image!r}")
        elif not isinstance(kind, int) or kind not in names:
            problems.append(f"{place}: no category of id {kind!r}")
        elif (box := _box(given)) is None:
            problems.append(f"{place}: bbox must be [x, y, width, height], not {given!r}")
        else:
            crowd = each.get("iscrowd", 0) not in (0, None)
            objects[image].append((place, names[kind], box, crowd))
    if twice := repeated([each["file_name"] for each in images.values()]):
        problems.append(f"duplicate images: {listed(twice)}")
    if problems:
        count = counted(len(problems), "invalid entry", "invalid entries")
        raise ValueError(f"coco: {file}: {count}: {listed(problems, '; ')}")
    if not images:
        raise ValueError(f"coco: {file}: no images")
    return [
        Entry(str(folder / each["file_name"]), str(file), _size(each), tuple(objects[number]))
        for number, each in sorted(images.items())
    ]


def _images(
    images: Iterable[Mapping[str, Any]], problems: list[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    seen = set()
    for index, each in enumerate(images):
        number, name = each.get("id"), each.get("file_name")
        if not isinstance(number, int) or not isinstance(name, str) or not name:
            problems.append(f"images[{index}]: no integer id and file_name")
        elif number in seen:
            problems.append(f"images[{index}]: duplicate id {number}")
        elif not all(isinstance(each.get(key, 0), int | float | None) for key in SIDES):
            problems.append(f"images[{index}], id {number}: height and width must be numbers")
        else:
            seen.add(number)
            yield number, each


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = (image.get(key) for key in SIDES)
    return (height, width) if height and width else None


def _box(value: Any) -> Box | None:
    if not isinstance(value, list) or [type(each) in (int, float) for each in value] != [True] * 4:
        return None
    left, top, width, height = map(float, value)
    return left, top, width, height
