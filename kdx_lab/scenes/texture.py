"""Backgrounds: two colours, mixed by gradients, stripes and smooth noise.

H x W: pixels. A field is [H, W], in [0, 1].
"""

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["colour", "texture"]

Size = tuple[int, int]
Field = NDArray[np.floating]

OCTAVES = (3, 6, 12, 24, 48)  # cells along the longer side
PERSISTENCE = 0.6  # the strength of an octave relative to the one before
NOISE = 0.4  # the share of noise in every background
STRIPES = (2.0, 10.0)  # along the shorter side
WARP = 4.0  # radians, of the bending of stripes by noise
CONTRAST = (0.3, 0.7)  # difference of the brightnesses of the two colours, modulo 1
SATURATION = 0.7  # at most


def texture(rng: np.random.Generator, size: Size) -> NDArray[np.floating]:
    """Return a background, [H, W, 3] in [0, 1]."""
    noise = _noise(rng, size)
    kind = rng.integers(3)
    field = noise if kind == 0 else _gradient(rng, size) if kind == 1 else _stripes(rng, noise)
    mixed = ((1 - NOISE) * field + NOISE * noise)[..., None]
    brightness = rng.random()
    first = colour(rng, brightness)
    second = colour(rng, (brightness + rng.uniform(*CONTRAST)) % 1)
    return first + (second - first) * mixed


def colour(rng: np.random.Generator, brightness: float) -> NDArray[np.float32]:
    """Return a colour, float32 [3] in [0, 1], whose largest part is `brightness`."""
    hue, saturation = rng.random(), SATURATION * rng.random()
    return np.array(colorsys.hsv_to_rgb(hue, saturation, brightness), np.float32)


def _noise(rng: np.random.Generator, size: Size) -> Field:
    """Add grids of random numbers, each finer and weaker than the one before."""
    field = np.zeros(size, np.float32)
    for octave, cells in enumerate(OCTAVES):
        grid_size = [max(2, round(cells * side / max(size))) for side in size]
        grid = Image.fromarray(rng.random(grid_size, np.float32))
        resized = grid.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        field += PERSISTENCE**octave * np.asarray(resized)
    return (field - field.min()) / (field.max() - field.min())


def _gradient(rng: np.random.Generator, size: Size) -> Field:
    along = _along(rng, size)
    return (along - along.min()) / (along.max() - along.min())


def _stripes(rng: np.random.Generator, noise: Field) -> Field:
    turns = rng.uniform(*STRIPES) * _along(rng, (noise.shape[0], noise.shape[1]))
    return 0.5 + 0.5 * np.sin(2 * np.pi * turns + WARP * noise)


def _along(rng: np.random.Generator, size: Size) -> Field:
    """Return each pixel's position along a random direction, in shorter sides of the scene."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = (np.arange(side, dtype=np.float32) / min(size) for side in size)
    return np.float32(np.sin(angle)) * rows[:, None] + np.float32(np.cos(angle)) * columns
