"""One scene: a background, objects one on top of the other, and what can be seen of each.

H x W: pixels of the scene, h x w: of a sprite.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from kdx.scenes.items import Items
from kdx.scenes.sprite import Sprite, make_sprite
from kdx.scenes.texture import texture

__all__ = ["CLUTTER", "RING", "Found", "Scene", "compose"]

Layers = NDArray[np.uint8]

CLUTTER, RING = 254, 255  # in `layers`; objects count from 1
CLUTTERED = 0.3  # the share of scenes with a patch that is no class
BEYOND = 0.25  # of an object, at most, beyond each border
KEPT = 0.15  # of each object below, where one of so many tries finds such a place:
TRIES = 3
SEEN = 1 / 3  # of an object; with less it is difficult
TINY = 64  # pixels; with less it is difficult
RINGS = 160  # pixels of the shorter side for each pixel of the ring's width
GRAIN = 0.02  # the standard deviation of the camera's noise


@dataclass(frozen=True)
class Found:
    """An object that can be seen: its number in `layers`, and its annotation.

    `box` is (left, top, right, bottom), the first and the last pixel counted from 0. It is
    `truncated` where a part is cut off or covered, `difficult` where little can be seen.
    """

    number: int
    label: int
    box: tuple[int, int, int, int]
    truncated: bool
    difficult: bool


@dataclass(frozen=True)
class Scene:
    """A picture uint8 [H, W, 3], and what each pixel shows, uint8 [H, W].

    `layers` holds 0 for the background, an object's number, `CLUTTER`, or `RING`: the pixels next
    to an object that are behind it, whose owner is open.
    """

    image: NDArray[np.uint8]
    layers: Layers
    objects: Sequence[Found]


def compose(
    items: Items, size: tuple[int, int], *, objects: tuple[int, int], key: Sequence[int]
) -> Scene:
    """Return the scene of `key`, with from `objects[0]` to `objects[1]` objects.

    Objects that others hide wholly are not found.
    """
    rng = np.random.default_rng(key)
    canvas, layers = texture(rng, size), np.zeros(size, np.uint8)
    if rng.random() < CLUTTERED:
        _add_clutter(rng, canvas, layers)
    sprites: list[Sprite] = []
    for number in range(1, rng.integers(objects[0], objects[1], endpoint=True) + 1):
        sprites.append(make_sprite(rng, items.draw(rng), shorter=min(size)))
        _paste(sprites[-1], _place(rng, sprites, layers), canvas, layers, number)
    canvas += GRAIN * rng.standard_normal(canvas.shape, np.float32)
    seen = np.bincount(layers.ravel(), minlength=256)
    layers[_ring(layers)] = RING
    found = [_found(number, sprite, layers, seen) for number, sprite in enumerate(sprites, start=1)]
    image = (canvas.clip(0, 1) * 255).round().astype(np.uint8)
    return Scene(image, layers, [one for one in found if one])


def _add_clutter(rng: np.random.Generator, canvas: NDArray, layers: Layers) -> None:
    """Fill an ellipse with another texture."""
    height, width = layers.shape
    centre, radius = rng.random(2) * (width, height), rng.uniform(0.08, 0.25, 2) * min(layers.shape)
    patch = Image.new("1", (width, height))
    ImageDraw.Draw(patch).ellipse([*(centre - radius), *(centre + radius)], fill=1)
    mask = np.asarray(patch)
    canvas[mask] = texture(rng, (height, width))[mask]
    layers[mask] = CLUTTER


def _place(rng: np.random.Generator, sprites: Sequence[Sprite], layers: Layers) -> tuple[int, int]:
    """Draw top and left of the last sprite until enough is left of those below it."""
    sprite, below = sprites[-1], sprites[:-1]
    least = np.array([KEPT * other.mask.sum() for other in below])
    sides = np.array(sprite.alpha.shape)
    low, high = -BEYOND * sides, np.array(layers.shape) - (1 - BEYOND) * sides
    at = (0, 0)
    for _ in range(TRIES):
        top, left = np.round(rng.uniform(low, high)).astype(int).tolist()
        at = (top, left)
        painted = layers.copy()
        _mark(sprite, at, painted, number=RING)
        left_over = np.bincount(painted.ravel(), minlength=256)[1 : len(sprites)]
        if (left_over >= least).all():
            break
    return at


def _paste(
    sprite: Sprite, at: tuple[int, int], canvas: NDArray, layers: Layers, number: int
) -> None:
    there, here = _windows(at, sprite.alpha.shape, layers.shape)
    alpha = sprite.alpha[here][..., None]
    canvas[there] += alpha * (sprite.colours[here] - canvas[there])
    _mark(sprite, at, layers, number=number)


def _mark(sprite: Sprite, at: tuple[int, int], layers: Layers, *, number: int) -> None:
    there, here = _windows(at, sprite.alpha.shape, layers.shape)
    layers[there][sprite.mask[here]] = number


def _windows(
    at: tuple[int, int], shape: tuple[int, ...], size: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a sprite lies in the scene, and which part of the sprite that is."""
    starts = [max(0, place) for place in at]
    ends = [min(side, place + own) for place, own, side in zip(at, shape, size, strict=True)]
    there = tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
    here = tuple(
        slice(start - place, end - place)
        for start, end, place in zip(starts, ends, at, strict=True)
    )
    return there, here


def _ring(layers: Layers) -> NDArray[np.bool_]:
    """Return the pixels that are next to an object which lies above what they show."""
    depth = np.where(layers == CLUTTER, 0, layers)
    grown = Image.fromarray(depth)
    for _ in range(max(1, round(min(layers.shape) / RINGS))):
        grown = grown.filter(ImageFilter.MaxFilter(3))
    return np.asarray(grown) > depth


def _found(number: int, sprite: Sprite, layers: Layers, seen: NDArray) -> Found | None:
    """Return the annotation of an object; None where the others and their rings hide it."""
    rows, columns = np.nonzero(layers == number)
    if not len(rows):
        return None
    whole, visible = int(sprite.mask.sum()), int(seen[number])
    box = (columns.min(), rows.min(), columns.max(), rows.max())
    return Found(
        number,
        sprite.label,
        (int(box[0]), int(box[1]), int(box[2]), int(box[3])),
        truncated=visible < whole,
        difficult=visible < SEEN * whole or visible < TINY,
    )
