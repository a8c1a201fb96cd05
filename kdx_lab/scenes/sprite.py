"""An item as it is pasted into a scene: scaled, stretched, mirrored, coloured.

h x w: pixels of the sprite.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdx_lab.scenes.items import Item
from kdx_lab.scenes.texture import colour

__all__ = ["Sprite", "make_sprite"]

LENGTHS = (0.15, 0.6)  # of an item's longer side, as shares of the scene's shorter one
SHORTEST = 12  # pixels of an item's longer side
STRETCH = 1.2  # of the width against the height, at most, either way
BRIGHTEST = (0.3, 1.0)  # part of the item's brightest colour
DARKEST = (0.1, 0.5)  # colour, as a share of the brightest


@dataclass(frozen=True)
class Sprite:
    """`colours` [h, w, 3] and `alpha` [h, w], both in [0, 1], and the class."""

    colours: NDArray[np.floating]
    alpha: NDArray[np.floating]
    label: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels that count as the item's, bool [h, w]."""
        return self.alpha >= 0.5


def make_sprite(rng: np.random.Generator, item: Item, *, shorter: int) -> Sprite:
    """Return the item for a scene whose shorter side is `shorter` pixels."""
    height, width = _scaled(rng, item.mask.shape, shorter)
    shade, alpha = (_resized(part, (height, width)) for part in (item.shade, item.mask))
    if rng.random() < 0.5:
        shade, alpha = shade[:, ::-1], alpha[:, ::-1]
    brightest = colour(rng, rng.uniform(*BRIGHTEST))
    darkest = brightest * np.float32(rng.uniform(*DARKEST))
    own = np.clip(shade / np.maximum(alpha, 1 / 255), 0, 1)[..., None]  # without the surroundings
    return Sprite(darkest + (brightest - darkest) * own, alpha, item.label)


def _scaled(rng: np.random.Generator, shape: tuple[int, ...], shorter: int) -> tuple[int, int]:
    """Draw height and width; the length is log-uniform."""
    low, high = (max(SHORTEST, share * shorter) for share in LENGTHS)
    length = low * (high / low) ** rng.random()
    stretch = STRETCH ** rng.uniform(-1, 1)
    height, width = shape[0], shape[1] * stretch
    scale = length / max(height, width)
    return max(2, round(height * scale)), max(2, round(width * scale))


def _resized(part: NDArray, size: tuple[int, int]) -> NDArray[np.floating]:
    """Resize, with an empty margin around the part, bilinear and antialiased."""
    image = Image.fromarray(np.pad(part.astype(np.float32), 1))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
