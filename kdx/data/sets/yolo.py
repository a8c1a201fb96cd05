"""YOLO's layout, as Ultralytics reads it: data.yaml, images, and a text file of boxes for each."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from kdx.data.decode import read_annotated
from kdx.data.sets.boxed import ANCHORS, Sample, Samples, box_data, read_samples
from kdx.data.sets.reading import beside, every_of, is_image, walk
from kdx.data.sets.yolo_txt import Labels, label_file, read_labels
from kdx.protocols import ImageData
from kdx.util.words import counted, listed, of_windows, repeated

__all__ = ["yolo"]


def yolo(
    *,
    file: str,
    train: str = "train",
    test: str = "val",
    size: int | tuple[int, int] = 416,
    anchors: Sequence[tuple[float, float]] = ANCHORS,
    invalid: Literal["refuse", "clip"] = "refuse",
) -> ImageData:
    """Open images with boxes in YOLO's layout; `file` is its data.yaml.

    `train` and `test` are keys in it: a folder, a text file that lists images, or a list of these,
    relative to its `path`, which is relative to it. `names` are a list, or a mapping from 0. See
    `kdx.data.sets.yolo_txt` for the labels; an image without a label file has no objects. Polygons
    become boxes; notes count them. `invalid` is as of `coco`: boxes may reach a pixel beyond the
    image, farther out they are refused, or clipped.

    Every label file and every image's header are read now. ValueError lists what cannot be read, by
    file and line, and images whose EXIF orientation the labels may or may not have followed.
    """
    content = _content(file)
    split = partial(_images, file, content)
    readers = partial(_names, file, content), partial(split, train), partial(split, test)
    names, *images = every_of(lambda read: read(), readers)
    parts: Mapping[str, list[str]] = dict(zip(("train", "test"), images, strict=True))
    labels: dict[str, Labels] = {}

    def read(image: str) -> Sample:
        (header, size), path = read_annotated(image, None), label_file(image)
        labels[image] = found = read_labels(path, names, size, clip=invalid == "clip")
        source = path if os.path.exists(path) else image  # what stands for the labels' time
        return Sample(image, source, header, size, found.objects, found.empty)

    samples = read_samples("yolo", read, parts)
    notes = _notes(samples, labels.values())
    by = "as the labels"
    return box_data("yolo", samples, names, size=size, anchors=anchors, by=by, notes=notes)


def _notes(samples: Samples, labels: Collection[Labels]) -> Iterator[str]:
    if polygons := sum(each.polygons for each in labels):
        yield f"yolo: {counted(polygons, 'polygon')} taken as the boxes around them"
    if repeats := sum(each.repeats for each in labels):
        yield f"yolo: {counted(repeats, 'line')} left out that repeat earlier ones"
    every = [each for part in samples.values() for each in part]
    if without := list(dict.fromkeys(e.image for e in every if e.annotation == e.image)):
        images = counted(len(without), "image")
        yield f"yolo: {images} without a label file, taken as without objects: {listed(without)}"


def _content(file: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(Path(file).read_bytes())
    except OSError as error:
        raise ValueError(f"yolo: {file}: {error.strerror}: set file to a data.yaml") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"yolo: {file}:{line}: invalid YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"yolo: {file}: invalid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"yolo: {file}: not a data.yaml: no keys train, val, names")
    if "kpt_shape" in content:
        raise ValueError(f"yolo: {file}: kpt_shape: labels with keypoints are not read")
    return content


def _names(file: str, content: Mapping[str, Any]) -> list[str]:
    """Return the classes' names, of a list or a mapping from their numbers, 0 and on."""
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise ValueError(f"yolo: {file}: names must be a list or a mapping, not {names!r}")
    numbers = {int(n) if str(n).isdecimal() else n: str(name) for n, name in names.items()}
    if set(numbers) != set(range(len(names))):
        raise ValueError(
            f"yolo: {file}: names must be numbered from 0 on, not {listed(list(map(str, names)))}"
        )
    if odd := [str(name) for name in names.values() if type(name) not in (str, int)]:
        raise ValueError(
            f"yolo: {file}: names: {listed(odd)} not text: YAML reads yes, on, true as True, no, "
            "off, false as False, 1.0 as a number, nothing as None: put such names in quotes"
        )
    if twice := repeated(list(numbers.values())):
        raise ValueError(f"yolo: {file}: names: duplicate classes: {listed(twice)}")
    if content.get("nc", len(names)) != len(names):
        raise ValueError(f"yolo: {file}: nc: {content['nc']}, but names has {len(names)}")
    return [numbers[number] for number in range(len(names))]


def _images(file: str, content: Mapping[str, Any], key: str) -> list[str]:
    """Return the images of a split; ValueError for absent ones, and those that come twice."""
    given = content.get(key)
    values = given if isinstance(given, list) else [given]
    places = [place for place in values if isinstance(place, str) and place]
    if not places or len(places) < len(values):
        keys = listed(list(map(str, content)))
        raise ValueError(f"yolo: {file}: {key}: {given!r} is not a path; keys are {keys}")
    given = str(content.get("path") or "")
    root = Path(beside(Path(file).parent, given))
    if advice := of_windows(given):
        raise ValueError(f"yolo: {file}: path: {advice}")
    parts = every_of(lambda place: _of_place(f"yolo: {file}: {key}", root, place), places)
    images = [image for part in parts for image in part]
    if not images:
        raise ValueError(f"yolo: {file}: {key}: no images in {listed(places)}")
    if twice := repeated(images):
        raise ValueError(f"yolo: {file}: {key}: duplicate images: {listed(twice)}")
    return images


def _of_place(origin: str, root: Path, place: str) -> list[str]:
    """Return the images in a folder, or that a text file lists."""
    path = Path(beside(root, place))
    if not path.exists() and place[:3] in ("../", "..\\"):  # as in Roboflow's exports
        path = Path(beside(root, place[3:]))
    if path.is_dir():
        return [*filter(is_image, sorted(walk(str(path))))]
    if path.is_file():
        return _listed(path, root)
    advice = of_windows(place) or "set path in it"
    raise ValueError(f"{origin}: no folder or list {str(root / place)!r}: {advice}")


def _listed(path: Path, root: Path) -> list[str]:
    """Return the images that a text file lists, relative to it or else to `root`."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"yolo: {path}: not a list of images: {error}") from error
    images, problems = [], []
    for number, line in enumerate(lines, 1):
        if name := line.strip():
            found = [beside(folder, name) for folder in (path.parent, root)]
            found = [each for each in found if os.path.isfile(each)]
            images += found[:1]
            if not found:
                problems.append(f"{path}:{number}: no file {name!r}")
    if problems:
        raise ValueError(
            f"yolo: {counted(len(problems), 'image')} missing: {listed(problems, '; ')}"
        )
    return images
