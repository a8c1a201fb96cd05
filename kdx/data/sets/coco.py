"""COCO's instances (Lin et al. 2014), and what is stored like them: photographs with boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kdx.data.decode import read_header
from kdx.data.sets.boxed import ANCHORS, Sample, box_data, fit, left_out, sample_notes
from kdx.data.sets.coco_json import Entry, read_categories, read_content, read_entries
from kdx.data.sets.labelling import repeated
from kdx.data.sets.reading import read_each
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
    files = {name: Path(root, annotations.replace("{split}", name)) for name in (train, test)}
    if len(files) < 2 or len(set(files.values())) < 2:
        place = f"annotations: {annotations!r}" if len(files) > 1 else f"train and test: {train!r}"
        raise ValueError(f"coco: {place} is the same file twice")
    folders = {name: Path(root, images.replace("{split}", name)) for name in files}
    contents = {name: read_content(file) for name, file in files.items()}
    names = [read_categories(str(files[name]), contents[name]) for name in files]
    if names[0] != names[1]:
        differ = sorted({f"{i} {name!r}" for i, name in names[0].items() ^ names[1].items()})
        places = " and ".join(map(str, files.values()))
        raise ValueError(f"coco: categories mismatch: {places} differ in {listed(differ)}")
    known = list(names[0].values()) if classes is None else list(classes)
    if twice := repeated(known):
        raise ValueError(f"coco: duplicate classes: {listed(twice)}")
    if absent := [name for name in known if name not in names[0].values()]:
        there = listed(sorted(names[0].values()))
        raise ValueError(f"coco: unknown classes: {listed(absent)}; the categories are {there}")
    parts = [
        read_entries(str(files[name]), contents[name], names[0], folders[name]) for name in files
    ]

    def read(entry: Entry) -> Sample:
        return _sample(entry, clip=invalid == "clip")

    read_all = iter(read_each("coco", read, [entry for part in parts for entry in part]))
    samples = {
        name: [next(read_all) for _ in part]
        for name, part in zip(("train", "test"), parts, strict=True)
    }
    left = left_out("coco", samples, known, other=other, every="null")
    notes = [*left, *sample_notes("coco", samples, known, by="as width and height say")]
    return box_data(samples, known, size=size, anchors=anchors, notes=notes)


def _sample(entry: Entry, *, clip: bool) -> Sample:
    """Read the header of an image and fit its objects to it."""
    header = read_header(entry.path)
    try:
        size = header.annotated(entry.size)
    except ValueError as error:
        raise ValueError(f"{entry.path}: {error}") from error
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
