"""The refusals that losses share."""

from math import inf

from torch import Tensor

from kdx.protocols import Outputs

__all__ = ["check_classes", "check_scales", "need_teacher"]


def need_teacher(teacher: Outputs | None, loss: str) -> Outputs:
    """Return `teacher`; ValueError where there is none."""
    if teacher is None:
        raise ValueError(f"{loss} needs a teacher: add a `teacher:` section")
    return teacher


def check_classes(logits: Tensor, num_classes: int | None, loss: str, *, on_grid: str) -> None:
    """Raise ValueError where logits [B, C, ...] have other channels than one for each class.

    None is any number. `on_grid` is the loss of detection that takes this one's place.
    """
    if num_classes is not None and logits.shape[1] != num_classes:
        raise ValueError(
            f"{loss}: the logits {list(logits.shape)} have {logits.shape[1]} channels, not one for "
            f"each of {num_classes} classes; for detection on a grid use `{on_grid}`"
        )


def check_scales(**scales: float) -> None:
    """Raise ValueError for the first of the weights, by name, that is negative or not finite."""
    for name, scale in scales.items():
        if not 0 <= scale < inf:
            raise ValueError(f"{name}: {scale} is not a finite number, 0 or above")
