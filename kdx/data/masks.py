"""Images with masks, an id for each pixel. N: samples, H, W: a view's pixels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdx.data.augment import Augment, check_changes, check_list
from kdx.data.decode import decode_annotated, decode_mask, decode_segments
from kdx.data.files import Files
from kdx.data.sources import BILINEAR, check_lists, check_rgb, found_in, taken
from kdx.protocols import IGNORED, UNKNOWN, InputSpec
from kdx.util.strings import packed
from kdx.util.words import counted, listed

IDS = 256


@dataclass(eq=False)
class MaskImages(Files):
    """Image files with masks, files of as many ids; `labels` [N] (int64) are what splits go by.

    `table` [256] (int64) has the class of each id: IGNORED if such pixels do not count, UNKNOWN if
    a mask with that id is refused. With `segments` masks are RGB: of each [n, 2] (int64) are
    the segments' ids and what they are in the table, in the order of ids; see `decode_segments`.

    A view is the whole image, resized to the input; the mask takes the nearest pixel's id. With
    `augment.scale` it is enlarged by a factor drawn evenly from that range, with `augment.window` a
    part of so many pixels is seen; either lies anywhere. Beyond the image a view has the mean
    colour, and is ignored. What a list of augmentations leaves is resized as a whole, to the
    window's size if there is one; what it fills in is ignored. ValueError for lists of different
    lengths and for an unfit table.

    An image whose EXIF orientation turns it to the size of its mask is turned; one that may be
    turned or not, because it is square for example, is refused when it is seen.
    """

    paths: Sequence[str]
    masks: Sequence[str]
    table: Tensor
    labels: Tensor
    segments: Sequence[NDArray[np.int64]] = ()  # not tensors: see BoxImages.__reduce__

    def __post_init__(self) -> None:
        more = {"segments": self.segments} if self.segments else {}
        check_lists("images with masks", self.labels, paths=self.paths, masks=self.masks, **more)
        self.paths, self.masks = packed(self.paths), packed(self.masks)
        if self.table.dtype != torch.int64 or self.table.shape != (IDS,):
            wrong = found_in(self.table)
            raise ValueError(f"table: the classes of ids must be int64 [{IDS}], not {wrong}")

    @property
    def files(self) -> Sequence[str]:
        """The images and the masks."""
        return [*self.paths, *self.masks]

    def tensors(self, *, targets: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield the table, which targets depend on."""
        if targets:
            yield "table", self.table
            yield from (("segments", torch.from_numpy(rows)) for rows in self.segments)

    def subset(self, indices: Tensor) -> "MaskImages":
        """Return the samples at `indices` [n], in that order."""
        paths, masks = (taken(files, indices) for files in (self.paths, self.masks))
        segments = taken(self.segments, indices) if self.segments else ()
        return MaskImages(paths, masks, self.table, self.labels[indices], segments)

    def check(self, input: InputSpec, augment: Augment | None) -> None:
        """Raise ValueError for an input that is not RGB, and for changes that masks cannot have."""
        check_rgb("images with masks", input)
        takes = ("flip", "scale", "window", "color", "then")
        check_changes("images with masks", augment, takes=takes)
        check_list("images with masks", augment)

    def preparation(self, input: InputSpec) -> Mapping[str, Any]:
        """Return that images are resized as a whole; see `kdx.data.preparation`."""
        resize = {"exactly": list(input.hw), **BILINEAR, "library": "torchvision (uint8)"}
        return {"mode": "RGB", "resize": resize}

    def view(self, index: int, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
        """Return an image, uint8 [3, H, W], and its classes, int64 [H, W]."""
        from kdx.data.geometry import place  # here: torchvision takes as long to import as torch

        image, mask = self._read(index)
        height, width = image.shape[1:]
        scales, view = (input.hw[0] / height, input.hw[1] / width), self.view_size(input, augment)
        placed = place((height, width), view, scales=scales, augment=augment)
        ids = placed.mask(mask)
        classes = self.table.index_select(0, ids.flatten().int()).view(ids.shape)  # no int64 of ids
        fill: list[float] = [round(255 * mean) for mean in input.mean]
        return placed.image(image, fill), placed.pad_mask(classes, IGNORED)

    def located(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image [3, h, w], and its classes from 1 on, 0 if ignored [1, h, w]."""
        from kdx.data.geometry import Ids

        image, mask = self._read(index)
        numbers = (self.table.clamp(min=-1) + 1).int()
        return image, Ids(numbers.index_select(0, mask.flatten().int()).view(1, *mask.shape))

    def fitted(
        self, index: int, parts: Sequence[Tensor], input: InputSpec, augment: Augment | None
    ) -> tuple[Tensor, Tensor]:
        """Return what a list left, resized to the view's size, as `view`."""
        from kdx.data.geometry import place

        image, ids = parts
        height, width = image.shape[1:]
        view = self.view_size(input, augment)
        scales = view[0] / height, view[1] / width
        placed = place((height, width), view, scales=scales, augment=None)
        classes = placed.mask(ids.as_subclass(Tensor)[0]).long() - 1
        return placed.image(image, [0.0] * 3), classes.where(classes >= 0, IGNORED)

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image [3, h, w] and its ids [h, w]."""
        path = self.masks[index]
        segments = self.segments[index] if self.segments else None
        mask = decode_mask(path) if segments is None else decode_segments(path, segments)
        image = decode_annotated(self.paths[index], (mask.shape[0], mask.shape[1]))
        self._check(index, mask, (image.shape[1], image.shape[2]))
        return image, mask

    def _check(self, index: int, mask: Tensor, size: tuple[int, int]) -> None:
        if mask.shape != size:
            raise ValueError(f"{self.masks[index]}: {other_size(tuple(mask.shape), size)}")
        counts = mask.flatten().bincount(minlength=IDS)
        if len(unknown := (counts * (self.table == UNKNOWN)).nonzero().flatten()):
            ids = [f"{i} ({counted(int(counts[i]), 'pixel')})" for i in unknown.tolist()]
            raise ValueError(f"{self.masks[index]}: unknown ids {listed(ids)}: no class has them")


def other_size(mask: tuple[int, ...], image: tuple[int, int]) -> str:
    """Return the message for a mask (H, W) of another size than its image."""
    return f"size mismatch: mask {mask[0]} x {mask[1]}, image {image[0]} x {image[1]}"
