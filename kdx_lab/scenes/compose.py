"""One scene: a background, a patch of clutter, and objects one on top of the other.

H x W: pixels of the scene, h x w: of a sprite.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kdx_lab.scenes.items import Items
from kdx_lab.scenes.sprite import Sprite, make_sprite
from kdx_lab.scenes.texture import texture
from kdx_lab.scenes.visible import CLUTTER, RING, Found, Layers, annotate

__all__ = ["Scene", "compose"]

CLUTTERED = 0.3  # the share of scenes with a patch that belongs to no class
BEYOND = 0.25  # the largest share of an object beyond each border
KEPT = 0.15  # the share of each object below that stays visible, if one of these tries succeeds:
TRIES = 3
GRAIN = 0.02  # the standard deviation of the camera's noise


@dataclass(frozen=True)
class Scene:
    """An image uint8 [H, W, 3], and what each pixel shows, uint8 [H, W].

    `layers` holds 0 for the background, an object's number, `CLUTTER`, or `RING`: the pixels behind
    an object that touch it, which belong to nothing.
    """

    image: NDArray[np.uint8]
    layers: Layers
    objects: Sequence[Found]


def compose(
    items: Items, size: tuple[int, int], *, objects: tuple[int, int], key: Sequence[int]
) -> Scene:
    """Return the scene of `key`, with from `objects[0]` to `objects[1]` objects.

    Objects that are completely hidden are left out.
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
    wholes = [(sprite.label, int(sprite.mask.sum())) for sprite in sprites]
    image = (canvas.clip(0, 1) * 255).round().astype(np.uint8)
    return Scene(image, *annotate(layers, wholes))


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
    """Draw top and left of the last sprite until enough of those below it stays visible."""
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
    """Return the part of the scene that a sprite covers, and that part of the sprite."""
    starts = [max(0, place) for place in at]
    ends = [min(side, place + own) for place, own, side in zip(at, shape, size, strict=True)]
    there = tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
    here = tuple(
        slice(start - place, end - place)
        for start, end, place in zip(starts, ends, at, strict=True)
    )
    return there, here
