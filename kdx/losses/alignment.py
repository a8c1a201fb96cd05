"""Bring the features of two networks to one layout, channels aside.

B: batch, C, D: channels, H, W: height and width, T: tokens.
"""

from math import isqrt

from torch import Tensor
from torch.nn import functional as F

__all__ = ["align", "channels"]

MAX_LEADING = 9  # a class token and up to eight registers stand before the patch tokens


def align(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as vectors [B, D], as T tokens [B, T, D] or as H x W maps [B, C, H, W].

    Two vectors, and tokens of the same number, stay. Everything else becomes a map, a vector one
    of 1 x 1, and each map is average-pooled to the smaller height and the smaller width.
    ValueError where a shape is none of these, or where tokens are not a square grid.
    """
    same_positions = student.shape[1:-1] == teacher.shape[1:-1]
    if student.ndim == teacher.ndim and student.ndim in (2, 3) and same_positions:
        return student, teacher
    student, teacher = _as_map(student), _as_map(teacher)
    height, width = map(min, student.shape[2:], teacher.shape[2:])
    return _pooled(student, height, width), _pooled(teacher, height, width)


def channels(feature: Tensor) -> int:
    """Return C of a map [B, C, H, W], D of vectors [B, D] and of tokens [B, T, D]."""
    return feature.shape[1 if feature.ndim == 4 else -1]


def _as_map(feature: Tensor) -> Tensor:
    if feature.ndim == 2:
        return feature[:, :, None, None]
    if feature.ndim == 3:
        return _token_grid(feature)
    if feature.ndim == 4:
        return feature
    raise ValueError(f"{tuple(feature.shape)} is none of [B, D], [B, T, D] and [B, C, H, W]")


def _token_grid(tokens: Tensor) -> Tensor:
    """Turn tokens [B, T, D] into [B, D, n, n], dropping the leading class and register tokens."""
    side = isqrt(tokens.shape[1])
    leading = tokens.shape[1] - side**2
    if leading > MAX_LEADING:
        raise ValueError(
            f"tokens {tuple(tokens.shape)} [B, T, D] are not a square grid: {tokens.shape[1]} is "
            f"{side} x {side} and {leading} more, and at most {MAX_LEADING} lead a grid"
        )
    return tokens[:, leading:].transpose(1, 2).unflatten(2, (side, side))


def _pooled(feature: Tensor, height: int, width: int) -> Tensor:
    if feature.shape[2:] == (height, width):
        return feature
    return F.adaptive_avg_pool2d(feature, (height, width))
