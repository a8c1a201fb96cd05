"""The refusals that losses share."""

from math import inf

from kdx.protocols import Outputs

__all__ = ["check_scales", "need_teacher"]


def need_teacher(teacher: Outputs | None, loss: str) -> Outputs:
    """Return `teacher`; ValueError where there is none."""
    if teacher is None:
        raise ValueError(f"{loss} needs a teacher: add a `teacher:` section")
    return teacher


def check_scales(**scales: float) -> None:
    """Raise ValueError for the first of the weights, by name, that is negative or not finite."""
    for name, scale in scales.items():
        if not 0 <= scale < inf:
            raise ValueError(f"{name}: {scale} is not a finite number, 0 or above")
