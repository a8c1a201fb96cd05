"""Which part of each object is visible, and its annotation.

H x W: pixels of the scene. Layers are uint8 [H, W]: 0 is the background, objects are numbered
from 1, the lowest, upwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["CLUTTER", "RING", "Found", "Layers", "annotate"]

Layers = NDArray[np.uint8]

CLUTTER, RING = 254, 255  # in layers: neither background nor object
SEEN = 1 / 3  # visible share of an object; with less it is difficult
TINY = 64  # visible pixels; with fewer it is difficult
RINGS = 160  # pixels of the shorter side for each pixel of the ring's width


@dataclass(frozen=True)
class Found:
    """A visible object: its number in the layers, its class, its annotation.

    `box` is (left, top, right, bottom), its first and last pixels, counted from 0. The object is
    `truncated` if a part is cut off or covered, `difficult` if less than a third or fewer than 64
    pixels are visible.
    """

    number: int
    label: int
    box: tuple[int, int, int, int]
    truncated: bool
    difficult: bool


def annotate(layers: Layers, wholes: Sequence[tuple[int, int]]) -> tuple[Layers, list[Found]]:
    """Return the layers with a ring around each object, and the visible objects.

    The ring covers what is behind the object. `wholes` are class and number of pixels of each
    object if nothing covered it or cut it off.
    """
    seen = np.bincount(layers.ravel(), minlength=256)
    ringed = np.where(_ring(layers), np.uint8(RING), layers)
    found = []
    for number, (label, whole) in enumerate(wholes, start=1):
        if box := _box(ringed == number):
            visible = int(seen[number])
            difficult = visible < SEEN * whole or visible < TINY
            found.append(Found(number, label, box, visible < whole, difficult))
    return ringed, found


def _ring(layers: Layers) -> NDArray[np.bool_]:
    """Return the pixels next to an object that lies above what they show."""
    depth = np.where(layers == CLUTTER, np.uint8(0), layers)
    grown = Image.fromarray(depth)
    for _ in range(max(1, round(min(layers.shape) / RINGS))):
        grown = grown.filter(ImageFilter.MaxFilter(3))
    return np.asarray(grown) > depth


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return the first and the last column and row of a mask; None if it is empty."""
    columns, rows = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (0, 1))
    return (columns[0], rows[0], columns[-1], rows[-1]) if columns else None
