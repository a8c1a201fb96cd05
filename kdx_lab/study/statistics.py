"""Statistics over a few seeds: mean, standard deviation, and paired differences of two arms."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from scipy.special import stdtr, stdtrit

__all__ = ["CONFIDENCE", "Difference", "Spread", "holm", "paired_difference", "spread"]

CONFIDENCE = 0.95
ROUNDING = 1e-12  # of the values: differences that vary by less are equal


@dataclass(frozen=True)
class Spread:
    """Values by seed, their mean, and the sample standard deviation (n - 1), None for one value."""

    values: Mapping[int, float]
    mean: float
    std: float | None


@dataclass(frozen=True)
class Difference:
    """Differences by seed, their mean, and the ends of its interval, None for one value.

    `p` is the probability of a mean at least as far from 0 if there is no difference, None also if
    all values are equal.
    """

    values: Mapping[int, float]
    mean: float
    low: float | None
    high: float | None
    p: float | None = None


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
    normal distribution. If all are equal it is a point. `p` is of the same test, two-sided.
    """
    found = spread({seed: arm[seed] - baseline[seed] for seed in arm if seed in baseline})
    if found is None:
        return None
    if found.std is None:
        return Difference(found.values, found.mean, None, None)
    n, mean = len(found.values), found.mean
    largest = max(abs(value) for values in (arm, baseline) for value in values.values())
    error = found.std / sqrt(n) if found.std > ROUNDING * largest else 0.0
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error)) if error else None
    return Difference(found.values, mean, mean - half, mean + half, p)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Correct the p-values of several comparisons (Holm, 1979), smallest first.

    The i-th smallest of m, from 0, becomes (m - i) p, no less than those before it, at most 1.
    Those below 5% hold together with 95% confidence.
    """
    corrected: dict[str, float] = {}
    for index, name in enumerate(sorted(p, key=lambda name: p[name])):
        before = max(corrected.values(), default=0.0)
        corrected[name] = min(1.0, max(before, (len(p) - index) * p[name]))
    return corrected
