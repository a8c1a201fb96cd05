"""What losses share: float32 at least, features as maps, and their refusals.

B: batch, C: channels, N: tokens.
"""

from collections.abc import Callable
from functools import wraps
from math import gcd, inf, isqrt
from typing import Any

import torch
from torch import Tensor

from kdx.protocols import Outputs

MAX_LEADING = 9  # a class token and up to eight registers come before the patch tokens


def full_precision(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap `function`: autocast off, and positional tensors of half precision as float32."""

    def raised(value: Any) -> Any:
        is_half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if is_half else value

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Tensor:
        device = next(arg.device.type for arg in args if isinstance(arg, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(raised, args), **kwargs)

    return wrapper


def need_teacher(teacher: Outputs | None, loss: str) -> Outputs:
    """Return `teacher`; ValueError if it is None."""
    if teacher is None:
        raise ValueError(f"{loss} needs a teacher: add a `teacher:` section")
    return teacher


def check_classes(logits: Tensor, num_classes: int | None, loss: str, *, on_grid: str) -> None:
    """Raise ValueError unless logits [B, C, ...] have one channel per class, if known.

    `on_grid` is the loss for detection that replaces this one.
    """
    if num_classes is not None and logits.shape[1] != num_classes:
        found = f"the logits {list(logits.shape)} have {logits.shape[1]} channels"
        advice = f"for detection on a grid use `{on_grid}`"
        raise ValueError(f"{loss}: {found}, not one per class ({num_classes}); {advice}")


def checked_scales(**scales: float) -> dict[str, float]:
    """Return the weights; ValueError for the first that is negative or not finite."""
    for name, scale in scales.items():
        if not 0 <= scale < inf:
            raise ValueError(f"{name}: {scale} is not a finite number of at least 0")
    return scales


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
