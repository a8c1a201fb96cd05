"""What losses share: float32 at least, and their refusals."""

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from math import inf
from typing import Any, TypeVar

import torch
from torch import Tensor

from kdx.protocols import Outputs

T = TypeVar("T")


def full_precision(function: Callable[..., T]) -> Callable[..., T]:
    """Wrap `function`: autocast off, and positional tensors of half precision as float32."""

    def raised(value: Any) -> Any:
        is_half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if is_half else value

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> T:
        device = next(arg.device.type for arg in args if isinstance(arg, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(raised, args), **kwargs)

    return wrapper


def hard(target: Tensor) -> Tensor:
    """Return labels [B] of labels, or of probabilities [B, C]: the likeliest class.

    Mixed images have the latter: theirs is the label with the larger share.
    """
    return target.argmax(1) if target.is_floating_point() and target.ndim > 1 else target


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


def per_class(name: str, numbers: Sequence[float], logits: Tensor, kind: str = "classes") -> Tensor:
    """Return weights [C] beside logits [B, C, ...]; ValueError for another number of them."""
    if (count := len(numbers)) != logits.shape[1]:
        raise ValueError(f"{name}: {count} weights for {logits.shape[1]} {kind}")
    return _made(tuple(numbers), torch.promote_types(logits.dtype, torch.float32), logits.device)


@lru_cache
def _made(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor, made once: on a GPU that is a copy which waits."""
    with torch.inference_mode(False):  # whatever the first call is for, later ones may train
        return torch.tensor(numbers, dtype=dtype, device=device)
