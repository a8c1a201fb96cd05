"""COCO's instances (Lin et al. 2014), and what is stored like them: photographs with boxes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from kdx.data.decode import read_annotated
from kdx.data.sets.boxed import ANCHORS, Sample, box_data, fit, read_samples
from kdx.data.sets.coco_json import Entry, read_categories, read_content, read_entries
from kdx.data.sets.labelling import repeated
from kdx.data.sets.voc_xml import VocObject
from kdx.protocols import ImageData
from kdx.util.words import listed

__all__ = ["coco"]


def coco(
    *,
    root: str,
    train: str = "train2017",
    test: str = "val2017",
    annotations: str = "annotations/instances_{split}.json",
    images: str = "{split}",
    size: int | tuple[int, int] = 416,
    anchors: Sequence[tuple[float, float]] = ANCHORS,
    classes: Sequence[str] | None = None,
    other: Literal["refuse", "ignore"] = "refuse",
    invalid: Literal["refuse", "clip"] = "refuse",
) -> ImageData:
    """Open images with boxes as in COCO's instances files.

    `annotations` and `images` are the file and the folder of a split, in `root`; "{split}" stands
    for `train` and `test`. Classes are the file's categories in the order of their ids, or
    `classes`, by name; objects of others are refused, or left out and counted (`other: ignore`).
    Crowds are difficult objects, as VOC's. Images without objects are kept. Boxes may reach a pixel
    beyond the image and are clipped; farther out they are refused, or clipped, too (`invalid:
    clip`). Boxes that cover nothing of their image are left out; notes name them.

    Every image's header is read now. ValueError lists what cannot be read, does not fit, or is not
    as in COCO's format, by file and the annotation's index and id.
    """
    files = [Path(root, annotations.replace("{split}", name)) for name in (train, test)]
    if files[0] == files[1]:
        place = f"train and test: {train!r}" if train == test else f"annotations: {annotations!r}"
        raise ValueError(f"coco: {place} is the same file twice")
    contents = [read_content(file) for file in files]
    names, others = map(read_categories, files, contents)
    if names != others:
        differ = sorted({f"{i} {name!r}" for i, name in names.items() ^ others.items()})
        places = " and ".join(map(str, files))
        raise ValueError(f"coco: categories mismatch: {places} differ in {listed(differ)}")
    known = list(names.values() if classes is None else classes)
    if twice := repeated(known):
        raise ValueError(f"coco: duplicate classes: {listed(twice)}")
    if absent := [name for name in known if name not in names.values()]:
        there = listed(sorted(names.values()))
        raise ValueError(f"coco: unknown classes: {listed(absent)}; the categories are {there}")
    folders = [Path(root, images.replace("{split}", name)) for name in (train, test)]
    parts = [
        read_entries(file, content, names, folder)
        for file, content, folder in zip(files, contents, folders, strict=True)
    ]
    read = partial(_sample, clip=invalid == "clip")
    samples = read_samples("coco", read, dict(zip(("train", "test"), parts, strict=True)))
    by = "as width and height say"
    return box_data(
        *("coco", samples, known), size=size, anchors=anchors, by=by, other=other, every="null"
    )


def _sample(entry: Entry, *, clip: bool) -> Sample:
    """Read the header of an image and fit its objects to it."""
    header, size = read_annotated(entry.path, entry.size)
    if entry.size not in (None, size):
        sizes = "annotated as {} x {}, image {} x {}".format(*entry.size, *size)
        raise ValueError(f"{entry.path}: size mismatch: {sizes} in {entry.file}")
    objects, empty, problems = [], [], []
    for place, name, (left, top, width, height), crowd in entry.objects:
        try:
            edges = fit((left, top, left + width, top + height), size, clip=clip)
        except ValueError as error:
            problems.append(f"{entry.file}: {place}: {error}")
            continue
        if edges is None:
            empty.append(f"{entry.file}: {place}")
        else:
            objects.append(VocObject(name, edges, crowd))
    if problems:
        raise ValueError(listed(problems))
    return Sample(entry.path, entry.file, header, size, objects, empty)
