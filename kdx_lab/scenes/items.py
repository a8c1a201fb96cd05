"""Fashion-MNIST's items, cut out of their black background.

n: items of a split, h x w: pixels of an item.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kdx.data.counter import Draw
from kdx.data.sets.fashion_mnist import fashion_mnist
from kdx.data.sources import MemoryImages
from kdx.data.splits import complement, stratified
from kdx.protocols import ImageSource
from kdx_lab.scenes.plan import SPLITS

__all__ = ["Item", "Items", "load_items"]

SIDE = 28
DARKEST = 16  # value of an item's pixels; below is noise of the background
FEWEST_PIXELS = 32
VAL_SHARE = 6  # one of this many training items is for val


@dataclass(frozen=True)
class Item:
    """An item, cropped: `shade` float32 [h, w] in [0, 1], `mask` bool [h, w], class."""

    shade: NDArray[np.float32]
    mask: NDArray[np.bool_]
    label: int


@dataclass(frozen=True)
class Items:
    """The items of one split: `images` uint8 [n, 28, 28] and `labels` int64 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def draw(self, rng: np.random.Generator) -> Item:
        """Return one of them, cut out, with its brightest pixel at 1."""
        number = int(rng.integers(len(self.labels)))
        pixels = self.images[number]
        mask = _mask(pixels)
        extent = np.ix_(mask.any(axis=1), mask.any(axis=0))
        shade = (pixels * mask)[extent].astype(np.float32) / pixels.max()
        return Item(shade, mask[extent], int(self.labels[number]))


def load_items(root: str | None = None) -> dict[str, Items]:
    """Return the items of train, val and test, which are disjoint.

    Training items are split into train and val, independently of any seed. `root` and errors are
    those of the data set `fashion_mnist`; also raises ValueError if a split has no visible items.
    """
    data = fashion_mnist(root=root, size=SIDE)
    count = len(data.train)
    val = stratified(data.train.labels, count // VAL_SHARE, seed=0, draw=Draw.VALIDATION)
    train = complement(val, count)
    everything = torch.arange(len(data.test))
    parts = ((data.train, train), (data.train, val), (data.test, everything))
    return {split: _visible(*part, split) for split, part in zip(SPLITS, parts, strict=True)}


def _visible(source: ImageSource, chosen: torch.Tensor, split: str) -> Items:
    assert isinstance(source, MemoryImages)
    images, labels = source.images[chosen, 0], source.labels[chosen]
    seen = (images >= DARKEST).sum(dim=(1, 2)) >= FEWEST_PIXELS
    if not seen.any():
        raise ValueError(f"{source.origin}: all {len(chosen)} images for {split} are empty")
    return Items(images[seen].numpy(), labels[seen].numpy())


def _mask(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels between the first and the last bright one of each column: no holes."""
    bright = pixels >= DARKEST
    above = np.logical_or.accumulate(bright, axis=0)
    below = np.logical_or.accumulate(bright[::-1], axis=0)[::-1]
    return above & below
