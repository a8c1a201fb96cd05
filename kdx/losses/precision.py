"""Losses compute in float32 at least, whatever precision the networks run in."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

__all__ = ["full_precision"]


def full_precision(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap `function`: autocast off, and its positional tensors of half precision in float32.

    float32 and float64 tensors pass as they are; gradients return in the precision that came in.
    """

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Tensor:
        device = next(arg.device.type for arg in args if isinstance(arg, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(_raised, args), **kwargs)

    return wrapper


def _raised(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if is_half else value
