"""JSON files of COCO, with lists of images, annotations and categories: its instances files."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdx.data.sets.reading import beside
from kdx.util.words import counted, listed, repeated

SIDES = ("height", "width")
NOWHERE = 0.0, 0.0, 0.0, 0.0
Box = tuple[float, float, float, float]  # left, top, width, height
Found = tuple[str, str, Box, bool]  # of an object: its place in the file, class, box, if a crowd
Content = Mapping[str, Sequence[Mapping[str, Any]]]
Images = Mapping[int, tuple[str, tuple[int, int] | None]]  # by id: path, and size (H, W) if given


class Entry(NamedTuple):
    """An image of a file: its path, its size (H, W) if the file gives one, and its objects.

    `repeats` are the places of objects that repeat an earlier one.
    """

    path: str
    file: str
    size: tuple[int, int] | None
    objects: Sequence[Found]
    repeats: Sequence[str]


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


def whole(value: Any) -> int | None:
    """Return an integer, also if it is written as 10.0; None for what is not one."""
    is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    return int(value) if is_whole else None


def used_categories(contents: Iterable[Content]) -> set[int | None]:
    """Return the ids of the categories that annotations, or their segments, are of."""
    notes = [each for content in contents for each in content["annotations"]]
    parts = [part for each in notes for part in _objects_in(each.get("segments_info"))]
    return {whole(each.get("category_id")) for each in (*notes, *parts)}


def _objects_in(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def read_categories(
    file: Path, content: Content, *, used: Collection[int | None], named: Collection[str] = ()
) -> dict[int, str]:
    """Return the names of categories in the order of their ids.

    Without the one that Roboflow writes for the project: it is the others' supercategory, has
    "none" itself, and is neither `used` by an annotation nor `named`.
    """
    found, problems = {}, []
    for index, each in enumerate(content["categories"]):
        is_wanted = whole(each.get("id")) in used or each.get("name") in named
        if _is_project(each, content["categories"]) and not is_wanted:
            continue
        number, name = whole(each.get("id")), each.get("name")
        if number is None or not isinstance(name, str) or not name.strip():
            problems.append(f"categories[{index}]: no integer id and name: {each}")
        elif number in found or name.strip() in found.values():
            problems.append(f"categories[{index}]: duplicate id {number} or name {name!r}")
        else:
            found[number] = name.strip()
    if problems or not found:
        raise ValueError(f"coco: {file}: {listed(problems, '; ') or 'no categories'}")
    return dict(sorted(found.items()))


def _is_project(category: Mapping[str, Any], categories: Sequence[Mapping[str, Any]]) -> bool:
    others = (each.get("supercategory") for each in categories if each is not category)
    return category.get("supercategory") == "none" and category.get("name") in others


def read_entries(
    file: Path, content: Content, names: Mapping[int, str], folder: Path, *, boxed: bool = True
) -> list[Entry]:
    """Return the images of a file in the order of their ids, as torchvision's CocoDetection.

    Unless `boxed`, boxes are not looked at.
    """
    if any("segments_info" in each for each in content["annotations"]):
        raise ValueError(f"coco: {file}: panoptic annotations: set task: segmentation")
    images, faulty, problems = read_images(file, content, folder)
    objects: defaultdict[int, list[Found]] = defaultdict(list)
    repeats: defaultdict[int, list[str]] = defaultdict(list)
    seen = set()
    for index, each in enumerate(content["annotations"]):
        place = f"annotations[{index}], id {each.get('id')}"
        image, kind = whole(each.get("image_id")), whole(each.get("category_id"))
        box = _box(each.get("bbox")) if boxed else NOWHERE
        if image not in images or image is None:
            if str(each.get("image_id")) not in faulty:  # else the image's own error is enough
                problems.append(f"{place}: no image of id {each.get('image_id')!r}")
        elif kind not in names or kind is None:
            problems.append(f"{place}: no category of id {each.get('category_id')!r}")
        elif box is None:
            given = each.get("bbox")
            problems.append(f"{place}: bbox must be [x, y, width, height], not {given!r}")
        else:
            crowd = each.get("iscrowd", 0) not in (0, None)
            objects[image].append((place, names[kind], box, crowd))
            if boxed and (image, kind, box) in seen:
                repeats[image].append(f"{file}: {place}")
            seen.add((image, kind, box))
    invalid(file, problems)
    return [
        Entry(path, str(file), size, tuple(objects[number]), tuple(repeats[number]))
        for number, (path, size) in images.items()
    ]


def read_images(file: Path, content: Content, folder: Path) -> tuple[Images, set[str], list[str]]:
    """Return images in the order of their ids, the ids of others, and what is wrong with them."""
    if not content["images"]:
        raise ValueError(f"coco: {file}: no images")
    problems: list[str] = []
    faulty: set[str] = set()
    found = dict(sorted(_images(content["images"], faulty, problems)))
    if twice := repeated([each["file_name"] for each in found.values()]):
        problems.append(f"duplicate images: {listed(twice)}")
    names = ((number, beside(folder, each["file_name"]), each) for number, each in found.items())
    return {number: (path, _size(each)) for number, path, each in names}, faulty, problems


def invalid(file: Path, problems: Sequence[str]) -> None:
    """Raise ValueError with the problems of a file, if there are any."""
    if problems:
        count = counted(len(problems), "invalid entry", "invalid entries")
        raise ValueError(f"coco: {file}: {count}: {listed(problems, '; ')}")


def _images(
    images: Iterable[Mapping[str, Any]], faulty: set[str], problems: list[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    seen = set()
    for index, each in enumerate(images):
        number, name = whole(each.get("id")), each.get("file_name")
        problem = ""
        if number is None or not isinstance(name, str) or not name:
            problem = f"images[{index}]: no integer id and file_name: {each}"
        elif number in seen:
            problem = f"images[{index}]: duplicate id {number}"
        elif wrong := [k for k in SIDES if each.get(k) is not None and whole(each[k]) is None]:
            given = f"{wrong[0]}: {each[wrong[0]]!r}"
            problem = (
                f"images[{index}], id {number}: height and width must be integers, not {given}"
            )
        seen.add(number)
        if problem:
            problems.append(problem)
            faulty |= {str(each.get("id")), str(number)}
        elif number is not None:
            yield number, each


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = (whole(image.get(key)) for key in SIDES)
    return (height, width) if height and width else None


def _box(value: Any) -> Box | None:
    if not isinstance(value, list) or [type(each) in (int, float) for each in value] != [True] * 4:
        return None
    left, top, width, height = map(float, value)
    return left, top, width, height
