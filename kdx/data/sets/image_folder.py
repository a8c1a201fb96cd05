"""Image files in ImageNet's layout: root/split/class/image."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image

from kdx.data.sources import FileImages
from kdx.protocols import ImageData, InputSpec
from kdx.words import counted

__all__ = ["image_folder"]

Folders = Mapping[str, Sequence[str]]  # of each class, its images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
VERIFY_AT_MOST = 100_000
THREADS = 16
SHOWN = 10


def image_folder(
    *,
    root: str,
    size: int = 224,
    train: str = "train",
    test: str = "val",
    verify: bool | None = None,
) -> ImageData:
    """Open the images in `root`/`train`/class and `root`/`test`/class, seen at size x size.

    Classes are numbered in the order of their names. `verify` opens the header of every file now
    rather than in the middle of an epoch; None does so for at most 100,000 files. Raises
    ValueError listing folders that are missing, classes that are empty or in one split only, and
    files that are no images.
    """
    if size < 1:
        raise ValueError(f"image_folder: size: {size} must be 1 pixel or more")
    splits = [_scan(Path(root, name)) for name in (train, test)]
    _check_classes(root, {train: splits[0], test: splits[1]})
    sources = [_source(folders) for folders in splits]
    if verify or (verify is None and sum(map(len, sources)) <= VERIFY_AT_MOST):
        _verify([path for source in sources for path in source.paths])
    return ImageData(*sources, classes=list(splits[0]), input=InputSpec(3, size, MEAN, STD))


def _scan(split: Path) -> Folders:
    """List the images of each class, both in the order of their names."""
    if not split.is_dir():
        raise ValueError(f"image_folder: there is no folder {str(split)!r}; set root, train, test")
    folders = {}
    for folder in sorted(split.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            images = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
            folders[folder.name] = sorted(map(str, images))
    return folders


def _check_classes(root: str, splits: Mapping[str, Folders]) -> None:
    every = set().union(*splits.values())
    if not every:
        raise ValueError(f"image_folder: no class folders in {root!r}, in {' and '.join(splits)}")
    problems = []
    for split, folders in splits.items():
        if missing := sorted(every - set(folders)):
            problems.append(f"{split} lacks the classes {_listed(missing)}")
        if empty := [name for name, images in folders.items() if not images]:
            problems.append(f"{split} has no images in {_listed(empty)}")
    if problems:
        raise ValueError(f"image_folder: in {root!r}, {'; '.join(problems)}")


def _source(folders: Folders) -> FileImages:
    counts = torch.tensor([len(images) for images in folders.values()])
    paths = [path for images in folders.values() for path in images]
    return FileImages(paths, torch.arange(len(folders)).repeat_interleave(counts))


def _verify(paths: Sequence[str]) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        opened = threads.map(_opens, paths)
        bad = [path for path, opens in zip(paths, opened, strict=True) if not opens]
    if bad:
        files = counted(len(bad), "file")
        raise ValueError(f"image_folder: no readable image in {files}: {_listed(bad)}")


def _opens(path: str) -> bool:
    """Say whether the header is an image's; the pixels are not decoded."""
    try:
        with Image.open(path):
            return True
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
