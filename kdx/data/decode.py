"""An image file to the pixels of a view. The geometry is torchvision's, to the pixel.

Pixels are those of torchvision's ImageFolder (`Image.convert("RGB")`): grey and palette become
RGB, alpha is dropped, CMYK is converted without a profile, of an animation the first frame is
taken, and EXIF orientation is ignored. Of 16 bits a channel in colour the upper 8 are kept. Images
of one 16-bit, 32-bit or float channel (modes I;16, I and F) are refused: the range of their values
is unknown, and `convert` would clip them at 255.

Masks are images of one channel of 8 bits (modes L and P), read as they are.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from kdx.data.counter import Draw, uniform

ATTEMPTS = 10
_SIDES = 4 / 3  # the largest ratio of a random crop's sides
_BILINEAR = Image.Resampling.BILINEAR

Crop = Callable[[Image.Image], Image.Image]


def decode(path: str, crop: Crop | None = None) -> Tensor:
    """Return the image in a file, or what `crop` leaves of it, uint8 [3, H, W].

    Raises ValueError naming a file that is missing, damaged, not an image, or not of 8 bits.
    """
    with _opened(path, "the image cannot be decoded: ") as image:
        rgb = image.convert("RGB")
        return torch.from_numpy(np.array(crop(rgb) if crop else rgb)).permute(2, 0, 1)


def decode_mask(path: str) -> Tensor:
    """Return the ids in a mask's file, uint8 [H, W]; of a palette, its indices.

    Raises ValueError as `decode`, and for more than one channel or another depth than 8 bits.
    """
    with _opened(path, "the mask cannot be decoded: ", mask=True) as image:
        return torch.from_numpy(np.array(image))


def image_size(path: str, *, mask: bool = False) -> tuple[int, int]:
    """Return (H, W) from the file's header; ValueError as `decode` or `decode_mask`."""
    with _opened(path, mask=mask) as image:
        return image.height, image.width


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to size * 256/224, keep the middle (Krizhevsky et al. 2012)."""
    target, shorter = resized_side(size), min(image.size)
    width, height = (int(target * side / shorter) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), _BILINEAR).crop((left, top, left + size, top + size))


def resized_side(size: int) -> int:
    """Return the shorter side, in pixels, of the image that a view of `size` is the middle of."""
    return round(size * 256 / 224)


def resized_crop(
    image: Image.Image, size: int, *, scale: tuple[float, float], numbers: NDArray
) -> Image.Image:
    """Crop a part of the image's area in the range `scale` and resize it to size x size.

    `numbers` [ATTEMPTS, 4], in [0, 1), choose area, shape, top and left. The first box inside the
    image is taken, or else the largest one in the middle (torchvision's RandomResizedCrop).
    """
    left, top, width, height = _random_box(*image.size, scale=scale, numbers=numbers)
    part = image.crop((left, top, left + width, top + height))
    return part.resize((size, size), _BILINEAR)


def draw_numbers(seed: int, epoch: int, index: int) -> NDArray:
    """Return the `numbers` of `resized_crop` for a view, [ATTEMPTS, 4]."""
    draws = Draw.RESIZED_CROP + np.arange(4 * ATTEMPTS)
    return uniform(seed, epoch, index, draws).reshape(ATTEMPTS, 4)


def _random_box(
    width: int, height: int, *, scale: tuple[float, float], numbers: NDArray
) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a box inside width x height."""
    low, high = scale
    for area, shape, top, left in numbers.tolist():
        pixels = width * height * (low + (high - low) * area)
        ratio = math.exp(math.log(_SIDES) * (2 * shape - 1))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(left * (width - w + 1)), int(top * (height - h + 1)), w, h
    w, h = min(width, round(height * _SIDES)), min(height, round(width * _SIDES))
    return (width - w) // 2, (height - h) // 2, w, h


@contextmanager
def _opened(path: str, problem: str = "", *, mask: bool = False) -> Iterator[Image.Image]:
    """Open an image, or a mask; ValueError names the file, also for errors while it is used."""
    try:
        with Image.open(path) as image:
            mode = image.mode
            if mask and mode not in ("L", "P"):
                raise ValueError(
                    f"mode {mode} is not of one channel of 8 bits, an id for each pixel"
                )
            if mode.startswith(("I", "F")):
                clipped = "more than 8 bits, which would be clipped"
                raise ValueError(f"mode {mode} has {clipped}: scale it to 8 bits")
            yield image
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{path}: {problem}{_reason(path, error)}") from error


def _reason(path: str, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image" if os.path.getsize(path) else "the file is empty"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
