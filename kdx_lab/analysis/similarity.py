"""How far the gradients of mini-batches agree: the numbers.

Sankararaman, De, Xu, Huang & Goldstein, "The Impact of Neural Network Overparameterization on
Gradient Confusion and Stochastic Gradient Descent" (2019); ExpandNets paper, 3.4.1.
"""

from collections.abc import Sequence
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde
from torch import Tensor

from kdx.data.counter import Draw, permutation

__all__ = ["angles_of", "cosine", "density", "minimum", "pair_of_batches"]

SAME = 1e-12  # cosines that differ by less


def cosine(first: Tensor, second: Tensor) -> float:
    """Return the cosine of the angle between two vectors [n], taken in float64.

    NaN where one of them is zero, or not finite: such a pair has no angle.
    """
    a, b = first.double(), second.double()
    length = float(a.norm() * b.norm())
    if not (length and isfinite(length)):
        return nan
    return max(-1.0, min(1.0, float(a @ b) / length))


def minimum(similarities: Sequence[float]) -> float:
    """Return the least of the pairs that have an angle; NaN where none has."""
    return min(angles_of(similarities), default=nan)


def density(similarities: Sequence[float], points: int = 512) -> tuple[NDArray, NDArray] | None:
    """Return so many points, and the Gaussian kernel density (Scott's bandwidth) there.

    They go as far as it does: four bandwidths beyond the data. None where there is no density:
    fewer than two pairs have an angle, or all have the same.
    """
    angles = angles_of(similarities)
    if len(angles) < 2 or np.ptp(angles) < SAME:
        return None
    kernel = gaussian_kde(angles)
    margin = 4 * float(np.sqrt(kernel.covariance[0, 0]))
    x = np.linspace(min(angles) - margin, max(angles) + margin, points)
    return x, kernel(x)


def pair_of_batches(
    n: int, batch_size: int, *, seed: int, epoch: int, pair: int
) -> tuple[list[int], list[int]]:
    """Return the samples, of `n`, of two batches: a pure function of (seed, epoch, pair).

    They have none in common where there are two batches of samples, else as few as can be. Raises
    ValueError where a batch is all samples, so that any two are the same.
    """
    if batch_size >= n:
        raise ValueError(
            f"data.batch_size: {batch_size:,} of {n:,} training images: every mini-batch is all "
            "of them, so that there are no two to compare"
        )
    order = permutation(seed, epoch, n, draw=Draw.PAIR + pair).tolist()
    both = order[: 2 * batch_size]
    return both[:batch_size], both[-batch_size:]


def angles_of(similarities: Sequence[float]) -> list[float]:
    """Return the similarities of the pairs that have an angle."""
    return [value for value in similarities if isfinite(value)]
