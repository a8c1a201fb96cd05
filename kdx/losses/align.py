"""Features of one shape. B: batch, C, D: channels, T: tokens, H, W: sizes."""

from math import isqrt

import torch.nn.functional as F
from torch import Tensor, nn

MAX_LEADING = 9  # a class token and up to eight registers come before the patch tokens


def as_map(feature: Tensor) -> Tensor:
    """Return a feature as a map [B, C, H, W]: vectors [B, D] as one of 1 x 1, tokens as a grid.

    Leading class and register tokens are dropped. ValueError for any other shape, and if tokens
    [B, T, D] are not a square grid.
    """
    shape = tuple(feature.shape)
    if feature.ndim not in (2, 3, 4):
        raise ValueError(f"{shape} is not [B, D], [B, T, D] or [B, C, H, W]")
    if feature.ndim != 3:
        return feature[:, :, None, None] if feature.ndim == 2 else feature
    side = isqrt(shape[1])
    leading = shape[1] - side**2
    if leading > MAX_LEADING:
        raise ValueError(
            f"tokens {shape} [B, T, D] are not a square grid: {shape[1]} is {side} x {side} and "
            f"{leading} more, and at most {MAX_LEADING} may lead a grid"
        )
    return feature[:, leading:].transpose(1, 2).unflatten(2, (side, side))


def maps_of_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as maps, average-pooled to the smaller height and the smaller width."""
    student, teacher = as_map(student), as_map(teacher)
    height, width = map(min, student.shape[2:], teacher.shape[2:])
    size = height, width
    return _pooled(student, size), _pooled(teacher, size)


def pointwise(inside: int, out: int) -> nn.Conv2d:
    """Return a 1 x 1 convolution without bias."""
    return nn.Conv2d(inside, out, 1, bias=False)


def _pooled(feature: Tensor, size: tuple[int, int]) -> Tensor:
    return feature if feature.shape[2:] == size else F.adaptive_avg_pool2d(feature, size)
