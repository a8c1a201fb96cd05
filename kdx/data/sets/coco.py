"""COCO's instances (Lin et al. 2014), and what is stored like them: photographs with boxes."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from kdx.data.decode import read_annotated
from kdx.data.files import FileImages
from kdx.data.sets.boxed import ANCHORS, Sample, box_data, fit_objects, other_classes, read_samples
from kdx.data.sets.coco_json import (
    Entry,
    read_categories,
    read_content,
    read_entries,
    used_categories,
)
from kdx.data.sets.coco_panoptic import panoptic_data, read_panoptic
from kdx.data.sets.reading import MEAN, STD, every_of, shared_images
from kdx.data.sets.stored import sift_sources
from kdx.data.sets.targets import many_labels
from kdx.data.sets.voc_xml import VocObject
from kdx.data.vectors import VectorImages
from kdx.protocols import ImageData, InputSpec
from kdx.util.words import counted, listed, repeated

__all__ = ["coco"]

KINDS = {"detection": "instances", "multilabel": "instances", "segmentation": "panoptic"}


def coco(
    *,
    root: str,
    train: str = "train2017",
    test: str = "val2017",
    task: Literal["detection", "multilabel", "segmentation"] = "detection",
    annotations: str | None = None,
    images: str = "{split}",
    masks: str = "annotations/panoptic_{split}",
    size: int | tuple[int, int] = 416,
    anchors: Sequence[tuple[float, float]] = ANCHORS,
    classes: Sequence[str] | None = None,
    other: Literal["refuse", "ignore"] = "refuse",
    invalid: Literal["refuse", "clip"] = "refuse",
) -> ImageData:
    """Open images with boxes as in COCO's instances files, or with masks as in its panoptic ones.

    `annotations` (of COCO's names if null) and `images` are the file and the folder of a split, in
    `root`; "{split}" stands for `train` and `test`. Classes are the file's categories in the order
    of their ids, or `classes`, by name; objects of others are refused, or left out and counted
    (`other: ignore`). Images without objects are kept.

    `task: detection`: crowds are difficult objects, as VOC's. Boxes may reach a pixel beyond the
    image and are clipped; farther out they are refused, or clipped, too (`invalid: clip`). Boxes
    that cover nothing of their image are left out; notes name them, and those that repeat others.
    `multilabel`: an image has the labels of its objects, crowds as well. `segmentation`: each pixel
    has the category of its segment in the folder `masks`: see `kdx.data.sets.coco_panoptic`.

    Every image's header is read now. ValueError lists what cannot be read, does not fit, or is not
    as in COCO's format, by file and the annotation's index and id.
    """
    annotations = annotations or f"annotations/{KINDS[task]}_{{split}}.json"
    files, folders, mask_folders = (
        [Path(root, pattern.replace("{split}", name)) for name in (train, test)]
        for pattern in (annotations, images, masks)
    )
    if files[0] == files[1]:
        place = f"train and test: {train!r}" if train == test else f"annotations: {annotations!r}"
        raise ValueError(f"coco: {place} is the same file twice")
    contents = every_of(read_content, files)
    wanted = {"used": used_categories(contents), "named": classes or ()}
    categories = every_of(partial(read_categories, **wanted), files, contents)
    known = _known(files, categories, classes)
    if task == "segmentation":
        pairs = every_of(read_panoptic, files, contents, categories, folders, mask_folders)
        return panoptic_data(pairs, contents[0], known, size=size, other=other)
    read = partial(read_entries, boxed=task == "detection")
    entries = every_of(read, files, contents, categories, folders)
    parts: Mapping[str, Sequence[Entry]] = dict(zip(("train", "test"), entries, strict=True))
    if task == "multilabel":
        return _labelled(parts, known, size=size, other=other)
    samples = read_samples("coco", partial(_sample, clip=invalid == "clip"), parts)
    twice = dict.fromkeys(place for part in entries for each in part for place in each.repeats)
    notes = []
    if twice:
        count = counted(len(twice), "annotation")
        kept = f"kept {count} with the image, category and bbox of an earlier one"
        notes = [f"coco: {kept}: {listed(list(twice))}"]
    how = {"by": "as width and height say", "other": other, "every": "null", "notes": notes}
    return box_data("coco", samples, known, size=size, anchors=anchors, **how)


def _known(
    files: Sequence[Path], categories: Sequence[Mapping[int, str]], classes: Sequence[str] | None
) -> list[str]:
    """Return the classes; ValueError for files that differ in them, and for unknown ones."""
    names, others = ([*each.values()] for each in categories)
    if classes is None and set(names) != set(others):
        differ = listed(sorted(map(repr, {*names} ^ {*others})))
        places = " and ".join(map(str, files))
        raise ValueError(
            f"coco: categories mismatch: {places} differ in {differ}: give both the same, or name "
            f"those to use (classes: [{listed([name for name in names if name in others])}])"
        )
    known = list(names if classes is None else classes)
    if twice := repeated(known):
        raise ValueError(f"coco: duplicate classes: {listed(twice)}")
    if absent := [name for name in known if name not in (*names, *others)]:
        there = listed(sorted({*names, *others}))
        raise ValueError(f"coco: unknown classes: {listed(absent)}; the categories are {there}")
    return known


def _labelled(
    parts: Mapping[str, Sequence[Entry]],
    classes: Sequence[str],
    *,
    size: int | tuple[int, int],
    other: Literal["refuse", "ignore"],
) -> ImageData:
    """Return images with the labels of their objects."""
    entries = {each.path: each for part in parts.values() for each in part}.values()
    names = [name for each in entries for _, name, _, _ in each.objects]
    notes = [*other_classes("coco", names, classes, other=other, every="null")]

    def labels(entry: Entry) -> list[str]:
        shown = {name for _, name, *_ in entry.objects}
        return [name for name in classes if name in shown]

    samples = {part: [(each.path, labels(each)) for each in es] for part, es in parts.items()}
    found = many_labels("coco", samples, classes)
    images = [
        FileImages([each.path for each in part], labels)
        for part, labels in zip(parts.values(), found.labels, strict=True)
    ]
    _, more = sift_sources("coco", images, verify=None, skip_bad=0)
    notes += [*more, *shared_images("coco", *(source.paths for source in images)), *found.notes]
    sources = [
        VectorImages(source, targets)
        for source, targets in zip(images, found.targets, strict=True)
        if targets is not None
    ]
    spec = InputSpec(3, size, MEAN, STD)
    return ImageData(*sources, classes=found.names, input=spec, notes=notes, task=found.task)


def _sample(entry: Entry, *, clip: bool) -> Sample:
    """Read the header of an image and fit its objects to it."""
    header, size = read_annotated(entry.path, entry.size)
    if entry.size not in (None, size):
        sizes = "annotated as {} x {}, image {} x {}".format(*entry.size, *size)
        raise ValueError(f"{entry.path}: size mismatch: {sizes} in {entry.file}")
    placed = [
        (f"{entry.file}: {place}", VocObject(name, (left, top, left + w, top + h), crowd))
        for place, name, (left, top, w, h), crowd in entry.objects
    ]
    return Sample(entry.path, entry.file, header, size, *fit_objects(placed, size, clip=clip))
