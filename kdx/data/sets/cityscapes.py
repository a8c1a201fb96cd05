"""Cityscapes (Cordts et al. 2016), and what has its layout: a class for each pixel."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from kdx.data.masks import IDS, MaskImages
from kdx.data.sets.reading import MEAN, STD, every_of, mask_notes
from kdx.protocols import IGNORED, UNKNOWN, ImageData, InputSpec
from kdx.util.words import counted, listed

__all__ = ["cityscapes"]

VOID = 255  # the train id of classes that do not count; among the ids it is -1, in 8 bits
ENDING = "_leftImg8bit.png"
FOLDERS = {"fine": "gtFine", "coarse": "gtCoarse"}

Files = tuple[str, str]  # an image and its mask


def cityscapes(
    *,
    root: str,
    size: int | tuple[int, int] = (1024, 2048),
    ids: Literal["train", "all"] = "train",
    train: str = "train",
    test: str = "val",
    mode: Literal["fine", "coarse"] = "fine",
) -> ImageData:
    """Open images with masks in Cityscapes' layout, as torchvision's Cityscapes finds them.

    `root` holds leftImg8bit and gtFine or, for `mode: coarse`, gtCoarse, with split/city/image;
    masks are the files *_labelIds.png. Images are resized to `size`, (height, width) or a side.
    `ids` are the 19 classes of the benchmark, other pixels being ignored, or all 34. The notes
    count masks without an image.

    The headers of all files are read now. ValueError lists images without a mask, masks of another
    size than their image, and files that cannot be read.
    """
    from torchvision.datasets import Cityscapes  # here: it takes as long to import as torch

    from kdx.tasks.segmentation import Segmentation

    files = every_of(partial(_listed, root, mode=mode), (train, test))
    pairs = zip((train, test), files, strict=True)
    notes = [note for split, part in pairs if (note := _without_image(root, split, mode, part))]
    notes += mask_notes("cityscapes", chain(*files), ending=ENDING)
    known = [each for each in Cityscapes.classes if each.id >= 0]
    seen = [each for each in known if ids == "all" or each.train_id != VOID]
    table = torch.full((IDS,), UNKNOWN)
    table[[VOID, *(each.id for each in known)]] = IGNORED
    table[[each.id for each in seen]] = torch.arange(len(seen))
    names = [each.name for each in seen]
    return ImageData(
        *(_source(part, table) for part in files),
        classes=names,
        input=InputSpec(3, size, MEAN, STD),
        notes=notes,
        task=Segmentation(classes=names, colors=[each.color for each in seen]),
    )


def _listed(root: str, split: str, mode: str) -> list[Files]:
    """Return image and mask of each sample, in the order of their names."""
    from torchvision.datasets import Cityscapes

    folders = [Path(root, name, split) for name in ("leftImg8bit", FOLDERS[mode])]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        places = " nor ".join(missing)
        raise ValueError(f"cityscapes: no folder {places}: set root, train, test, mode")
    try:
        found = Cityscapes(root, split=split, mode=mode, target_type="semantic")
    except (OSError, ValueError) as error:
        raise ValueError(f"cityscapes: in {root!r}: {error}") from error
    pairs = zip(found.images, (masks[0] for masks in found.targets), strict=True)
    files = sorted(pair for pair in pairs if not Path(pair[0]).name.startswith("."))
    if not files:
        raise ValueError(f"cityscapes: no images in {folders[0]}, as city/*{ENDING}")
    return files


def _without_image(root: str, split: str, mode: str, files: Sequence[Files]) -> str:
    """Say how many masks of a split have no image."""
    masks = {str(path) for path in Path(root, FOLDERS[mode], split).glob("*/*_labelIds.png")}
    left = sorted(masks - {str(Path(mask)) for _, mask in files})
    count = f"{counted(len(left), 'mask')} of {split!r} without an image"
    return f"cityscapes: {count}: {listed(left)}" if left else ""


def _source(files: Sequence[Files], table: Tensor) -> MaskImages:
    paths, masks = ([each[i] for each in files] for i in (0, 1))
    return MaskImages(paths, masks, table, torch.zeros(len(files), dtype=torch.int64))
