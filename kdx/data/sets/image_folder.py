"""Image files in ImageNet's layout: root/split/class/image."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from kdx.data.files import FileImages
from kdx.data.sets.reading import MEAN, STD, check_numbers, other_kind, walk
from kdx.data.sets.stored import sift_sources
from kdx.protocols import ImageData, InputSpec
from kdx.util.words import counted, listed

__all__ = ["image_folder"]

Folders = Mapping[str, Sequence[str]]  # of each class, its images


def image_folder(
    *,
    root: str,
    size: int = 224,
    train: str = "train",
    test: str = "val",
    verify: bool | None = None,
    skip_bad: int = 0,
) -> ImageData:
    """Open the images in `root`/`train`/class and `root`/`test`/class, seen at size x size.

    Classes are numbered in the order of their names. Images lie in a class's folder or in folders
    within it, and have a suffix of a format that Pillow reads; notes count the files that have not,
    hidden files, and files beside the class folders. `verify` opens the header of every file now;
    None does so for at most 100,000 files. With `skip_bad` every file is decoded now, and at most
    so many that cannot be are left out; notes name them. ValueError lists folders that are missing,
    classes that are empty or in one split only, and files that cannot be read.
    """
    check_numbers("image_folder", size=size, skip_bad=skip_bad)
    if absent := [str(f) for f in (Path(root, train), Path(root, test)) if not f.is_dir()]:
        folders = " and no folder ".join(map(repr, absent))
        where = f"paths start at {os.getcwd()}" if not os.path.isabs(root) else ""
        raise ValueError(f"no folder {folders}; set root, train, test{where and f' ({where})'}")
    left: Counter[str] = Counter()
    splits = {name: _scan(Path(root, name), left) for name in (train, test)}
    counts = {
        split: {name: len(images) for name, images in folders.items()}
        for split, folders in splits.items()
    }
    _check_classes(root, counts)
    classes = list(counts[train])
    sources = [_source(splits[name]) for name in (train, test)]
    sources, notes = sift_sources("image_folder", sources, verify=verify, skip_bad=skip_bad)
    for split, source in zip((train, test), sources, strict=True):
        kept = source.labels.bincount(minlength=len(classes)).tolist()
        counts[split] = dict(zip(classes, kept, strict=True))
    _check_classes(root, counts)
    spec = InputSpec(3, size, MEAN, STD)
    return ImageData(*sources, classes=classes, input=spec, notes=[*_left_out(left), *notes])


def _scan(split: Path, left: Counter[str]) -> Folders:
    """List the images of each class, both in the order of their names; count what is `left` out."""
    folders = {}
    for folder in sorted(split.iterdir()):
        if not folder.is_dir():
            left["beside the class folders"] += 1
        elif not folder.name.startswith("."):
            files = {path: other_kind(path) for path in walk(str(folder))}
            folders[folder.name] = sorted(path for path, kind in files.items() if not kind)
            left.update(filter(None, files.values()))
    return folders


def _left_out(left: Counter[str]) -> Iterator[str]:
    if left:
        kinds = listed([f"{count:,} {kind}" for kind, count in left.most_common()])
        count = counted(left.total(), "file")
        yield f"image_folder: {count} left out, not images by place or suffix: {kinds}"


def _check_classes(root: str, splits: Mapping[str, Mapping[str, int]]) -> None:
    """Raise ValueError unless the splits have images of the same classes, by their counts."""
    every = set().union(*splits.values())
    if not every:
        raise ValueError(f"image_folder: no class folders in {root!r}, in {' and '.join(splits)}")
    problems = []
    for split, counts in splits.items():
        if missing := sorted(every - set(counts)):
            problems.append(f"{split} lacks the classes {listed(missing)}")
        if empty := [name for name, count in counts.items() if not count]:
            problems.append(f"{split} has no images in {listed(empty)}")
    if problems:
        raise ValueError(f"image_folder: in {root!r}, {'; '.join(problems)}")


def _source(folders: Folders) -> FileImages:
    counts = torch.tensor([len(images) for images in folders.values()])
    paths = [path for images in folders.values() for path in images]
    return FileImages(paths, torch.arange(len(folders)).repeat_interleave(counts))
