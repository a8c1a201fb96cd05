"""Features of one shape. B: batch, C, D: channels, N, T: tokens, H, W: sizes."""

from math import gcd, isqrt

import torch.nn.functional as F
from torch import Tensor, nn

MAX_LEADING = 9  # a class token and up to eight registers come before the patch tokens


def maps_of_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as maps, average-pooled to the smaller height and the smaller width."""
    student, teacher = as_map(student, like=teacher), as_map(teacher, like=student)
    height, width = map(min, student.shape[2:], teacher.shape[2:])
    size = height, width
    return _pooled(student, size), _pooled(teacher, size)


def with_positions(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """As `maps_of_one_size`; ValueError if one position is left, of which nothing is learned."""
    maps = maps_of_one_size(student, teacher)
    if maps[0].shape[2] * maps[0].shape[3] == 1:
        shapes = f"{list(student.shape)} and {list(teacher.shape)}"
        raise ValueError(f"features {shapes} have one position: choose layers with larger maps")
    return maps


def pointwise(inside: int, out: int) -> nn.Conv2d:
    """Return a 1 x 1 convolution without bias."""
    return nn.Conv2d(inside, out, 1, bias=False)


def _pooled(feature: Tensor, size: tuple[int, int]) -> Tensor:
    return feature if feature.shape[2:] == size else F.adaptive_avg_pool2d(feature, size)


def channels_of(feature: Tensor) -> int:
    """Return C of a map [B, C, H, W], of tokens [B, N, C] and of vectors [B, C]."""
    return feature.shape[1 if feature.ndim == 4 else -1]


def as_map(feature: Tensor, *, like: Tensor) -> Tensor:
    """Return a map, tokens or vectors as a map [B, C, H, W]; vectors as one of 1 x 1.

    Tokens lose the leading class and register tokens. Their grid is square, or has the sides of a
    map `like` up to a factor (images that are not square), whichever leaves fewer tokens over.
    ValueError for other shapes, and for tokens that are neither grid, or both alike.
    """
    shape = tuple(feature.shape)
    if feature.ndim not in (2, 3, 4):
        raise ValueError(f"{shape} is not [B, D], [B, T, D] or [B, C, H, W]")
    if feature.ndim != 3:
        return feature[:, :, None, None] if feature.ndim == 2 else feature
    sides = (like.shape[2], like.shape[3]) if like.ndim == 4 else (1, 1)
    (leading, grid), *others = sorted({_grid(shape[1], *each) for each in ((1, 1), sides)})
    height, width = grid
    if leading > MAX_LEADING:
        raise ValueError(
            f"tokens {shape} [B, T, D] are not a square grid: {shape[1]} is {height} x {width} and "
            f"{leading} more, and at most {MAX_LEADING} may lead a grid"
        )
    if others and others[0][0] == leading:
        both = " or ".join(f"{h} x {w}" for _, (h, w) in [(leading, grid), *others])
        raise ValueError(
            f"tokens {shape} [B, T, D] are a grid of {both}, which is unclear: choose two layers "
            "of maps, or two of tokens"
        )
    return feature[:, leading:].transpose(1, 2).unflatten(2, grid)


def _grid(tokens: int, height: int, width: int) -> tuple[int, tuple[int, int]]:
    """Return how many tokens lead the largest grid with sides as height to width, and the grid."""
    divisor = gcd(height, width)
    height, width = height // divisor, width // divisor
    scale = isqrt(tokens // (height * width))
    leading = tokens - height * width * scale**2 if scale else tokens
    return leading, (height * scale, width * scale)
