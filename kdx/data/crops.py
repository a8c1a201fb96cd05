"""What is seen of an image that is classified. The geometry is torchvision's, to the pixel.

C: channels, h, w: height and width in pixels.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from kdx.data.counter import Draw, uniform
from kdx.protocols import Key

ATTEMPTS = 10
_SIDES = 4 / 3  # the largest ratio of a random crop's sides
_BILINEAR = Image.Resampling.BILINEAR
_LONG = 8  # times as long as wide: of longer images only what is seen is enlarged

N = TypeVar("N", int, float)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to size * 256/224, keep the middle (Krizhevsky et al. 2012).

    An image that is size x size is returned as it is.
    """
    if image.size == (size, size):
        return image
    target, shorter = resized_side(size), min(image.size)
    width, height = (int(target * side / shorter) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    if max(width, height) > _LONG * target and target > shorter:
        return _part_resized(image, (width, height), (left, top), size)
    return image.resize((width, height), _BILINEAR).crop((left, top, left + size, top + size))


def resized_side(size: int) -> int:
    """Return the shorter side, in pixels, of the image that a view of `size` is the middle of."""
    return round(size * 256 / 224)


def _part_resized(
    image: Image.Image, resized: tuple[int, int], corner: tuple[int, int], size: int
) -> Image.Image:
    """Return size x size pixels of the image `resized` (width, height), from `corner` (left, top).

    Only what the filter reaches is resized; in 8 bits the pixels are the same, up to rounding.
    """
    outer, near, box = [], [], []  # left, right and top, bottom: of the result, of the image, in it
    for side, length, start in zip(image.size, resized, corner, strict=True):
        step = side / length  # pixels of the image to one of the result
        margin = math.ceil(max(1, step) / step) + 1
        first, last = max(0, start - margin), min(length, start + size + margin)
        begin, end = math.floor(first * step), min(side, math.ceil(last * step))
        outer.append((first, last))
        near.append((begin, end))
        box.append((first * step - begin, min(end, last * step) - begin))
    (left, right), (top, bottom) = outer
    shape = right - left, bottom - top
    part = image.crop(_corners(near)).resize(shape, _BILINEAR, box=_corners(box))
    x, y = corner[0] - left, corner[1] - top
    return part.crop((x, y, x + size, y + size))


def _corners(spans: Sequence[tuple[N, N]]) -> tuple[N, N, N, N]:
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def resized_crop(
    image: Tensor, size: int, *, scale: tuple[float, float], numbers: NDArray
) -> Tensor:
    """Crop a part of the area of an image [C, h, w], uint8, in the range `scale`; resize it.

    `numbers` [ATTEMPTS, 4], in [0, 1), choose area, shape, top and left. The first box inside the
    image is taken, or else the largest one in the middle (torchvision's RandomResizedCrop, as of
    tensors: three times as fast as of Pillow's images, with a difference of 1 in a few pixels of
    1,000).
    """
    height, width = image.shape[1:]
    left, top, width, height = _random_box(width, height, scale=scale, numbers=numbers)
    part = image[None, :, top : top + height, left : left + width]
    part = part.contiguous(memory_format=torch.channels_last)  # as pixels are decoded: the fastest
    return interpolate(part, (size, size), mode="bilinear", antialias=True)[0]


def draw_numbers(seed: int, keys: Sequence[Key]) -> NDArray:
    """Return the `numbers` of `resized_crop` for views, [B, ATTEMPTS, 4]."""
    epochs, indices = np.array(keys, np.int64).T[..., None]
    draws = Draw.RESIZED_CROP + np.arange(4 * ATTEMPTS)
    return uniform(seed, epochs, indices, draws).reshape(-1, ATTEMPTS, 4)


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
