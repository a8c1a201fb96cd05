"""Statistics over a few seeds: mean, standard deviation, and paired differences of two arms."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from scipy.special import stdtrit

__all__ = ["CONFIDENCE", "Difference", "Spread", "paired_difference", "spread"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Values by seed, their mean, and the sample standard deviation (n - 1), None for one value."""

    values: Mapping[int, float]
    mean: float
    std: float | None


@dataclass(frozen=True)
class Difference:
    """Differences by seed, their mean, and the ends of its interval, None for one value."""

    values: Mapping[int, float]
    mean: float
    low: float | None
    high: float | None


def spread(values: Mapping[int, float]) -> Spread | None:
    """Summarise values by seed; None if there are none."""
    if not values:
        return None
    std = stdev(values.values()) if len(values) > 1 else None
    return Spread(dict(values), fmean(values.values()), std)


def paired_difference(arm: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Return arm - baseline over the seeds that both have, None if there are none.

    The interval is Student's t for the mean of n paired differences d with the sample standard
    deviation s: mean(d) +- t(n - 1) s / sqrt(n). It assumes that the differences are drawn from one
    normal distribution. If all are equal it is a point.
    """
    found = spread({seed: arm[seed] - baseline[seed] for seed in arm if seed in baseline})
    if found is None:
        return None
    if found.std is None:
        return Difference(found.values, found.mean, None, None)
    n = len(found.values)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * found.std / sqrt(n)
    return Difference(found.values, found.mean, found.mean - half, found.mean + half)
