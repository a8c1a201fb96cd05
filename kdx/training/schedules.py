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

ROUNDING = 1e-12  # of a stage: more than float64 loses, less than any step

_Factor = Callable[[float, int, int, int], float]
"""Of the progress in [0, 1], 1 at the last step, and of what a schedule is given."""


class Schedule(Protocol):
    """The factor of the learning rate at a step."""

    def __call__(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return the factor, 0 or more."""
        ...


def constant(*, warmup: float = 0) -> Schedule:
    """Keep the learning rate; `warmup` epochs (or a fraction of the stage) rise to it."""
    return _warmed(warmup, lambda progress, *at: 1.0)


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

    def factor(progress: float, step: int, steps: int, steps_per_epoch: int) -> float:
        return gamma ** sum(step >= _in_steps(m, steps, steps_per_epoch) for m in milestones)

    return _warmed(warmup, factor)


def cosine(*, end: float = 0.0, warmup: float = 0) -> Schedule:
    """Fall from 1 to `end` along half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    _check_end(end)
    return _warmed(warmup, lambda progress, *at: end + (1 - end) * (1 + cos(pi * progress)) / 2)


def linear(*, end: float = 0.0, warmup: float = 0) -> Schedule:
    """Fall from 1 to `end` in a straight line."""
    _check_end(end)
    return _warmed(warmup, lambda progress, *at: 1 - (1 - end) * progress)


def _warmed(warmup: float, factor: _Factor) -> Schedule:
    """Rise linearly over the first `warmup` epochs (a fraction of the stage when below 1)."""
    if not 0 <= warmup <= LONGEST:
        raise ValueError(f"warmup: {warmup} must be 0 or more epochs, at most {LONGEST:,}")

    def schedule(step: int, steps: int, steps_per_epoch: int) -> float:
        rising = round(_in_steps(warmup, steps, steps_per_epoch))
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = (step - rising) / max(1, steps - 1 - rising)
        return factor(progress, step, steps, steps_per_epoch)

    return schedule


def _in_steps(length: float, steps: int, steps_per_epoch: int) -> float:
    """Return epochs, or a fraction of the stage when below 1, in steps.

    Half and whole steps are exact: 0.28 of 25 is 7, and not 7.000000000000001.
    """
    found = length * (steps if length < 1 else steps_per_epoch)
    half = (2 * found + 0.5) // 1 / 2  # the nearest
    return half if abs(found - half) <= ROUNDING * max(steps, found) else found


def _check_end(end: float) -> None:
    if not 0 <= end <= 1:
        raise ValueError(f"end: {end} must be in [0, 1], a fraction of the learning rate")


TABLE = {"constant": constant, "cosine": cosine, "linear": linear, "multistep": multistep}
