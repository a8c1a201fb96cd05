"""Learning-rate schedules: pure functions of how far a stage has come.

A schedule maps (step, steps, steps_per_epoch) to a factor of the optimizer's learning rate. It has
no state, so it ends at the last optimizer step with any number of processes and any accumulation.
`step` counts optimizer steps from 0; the last one is steps - 1.
"""

from collections.abc import Callable, Sequence
from math import cos, log10, pi
from typing import Protocol

__all__ = ["TABLE", "Schedule", "constant", "cosine", "linear", "multistep"]

LARGEST = 8  # the logarithm of a factor that keeps the learning rate finite
LONGEST = 10**6  # epochs

_Factor = Callable[[float, float, float], float]
"""Of the progress in [0, 1], 1 at the last step, the epoch from 0, and the number of epochs."""


class Schedule(Protocol):
    """The factor of the learning rate at a step."""

    def __call__(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return the factor, 0 or more."""
        ...


def constant(*, warmup: float = 0) -> Schedule:
    """Keep the learning rate; `warmup` epochs (or a fraction of the stage) rise to it."""
    return _warmed(warmup, lambda progress, epoch, epochs: 1.0)


def multistep(*, milestones: Sequence[float], gamma: float = 0.1, warmup: float = 0) -> Schedule:
    """Multiply by `gamma` at each milestone.

    Milestones are epochs, or fractions of the stage when below 1: a recipe in fractions keeps
    its shape when `epochs` changes.
    """
    if any(m <= 0 for m in milestones) or sorted(milestones) != list(milestones):
        raise ValueError(f"milestones: {list(milestones)} must be above 0 and ascending")
    if not gamma > 0:
        raise ValueError(f"gamma: {gamma} must be above 0")
    if len(milestones) * log10(gamma) > LARGEST:
        raise ValueError(f"gamma: {gamma} at {len(milestones)} milestones is above 1e{LARGEST}")

    def factor(progress: float, epoch: float, epochs: float) -> float:
        return gamma ** sum(epoch >= (m * epochs if m < 1 else m) for m in milestones)

    return _warmed(warmup, factor)


def cosine(*, end: float = 0.0, warmup: float = 0) -> Schedule:
    """Fall from 1 to `end` along half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    _check_end(end)
    return _warmed(warmup, lambda at, epoch, epochs: end + (1 - end) * (1 + cos(pi * at)) / 2)


def linear(*, end: float = 0.0, warmup: float = 0) -> Schedule:
    """Fall from 1 to `end` in a straight line."""
    _check_end(end)
    return _warmed(warmup, lambda progress, epoch, epochs: 1 - (1 - end) * progress)


def _warmed(warmup: float, factor: _Factor) -> Schedule:
    """Rise linearly over the first `warmup` epochs (a fraction of the stage when below 1)."""
    if not 0 <= warmup <= LONGEST:
        raise ValueError(f"warmup: {warmup} must be 0 or more epochs, at most {LONGEST:,}")

    def schedule(step: int, steps: int, steps_per_epoch: int) -> float:
        rising = round(warmup * (steps if warmup < 1 else steps_per_epoch))
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = (step - rising) / max(1, steps - 1 - rising)
        return factor(progress, step / steps_per_epoch, steps / steps_per_epoch)

    return schedule


def _check_end(end: float) -> None:
    if not 0 <= end <= 1:
        raise ValueError(f"end: {end} must be in [0, 1], a fraction of the learning rate")


TABLE = {"constant": constant, "cosine": cosine, "linear": linear, "multistep": multistep}
