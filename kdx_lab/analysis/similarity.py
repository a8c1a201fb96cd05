"""How similar the gradients of mini-batches are.

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

    NaN if one of them is zero or not finite.
    """
    a, b = first.double(), second.double()
    length = float(a.norm() * b.norm())
    if not (length and isfinite(length)):
        return nan
    return max(-1.0, min(1.0, float(a @ b) / length))


def minimum(similarities: Sequence[float]) -> float:
    """Return the minimum of the finite similarities; NaN if there are none."""
    return min(angles_of(similarities), default=nan)


def density(similarities: Sequence[float], points: int = 512) -> tuple[NDArray, NDArray] | None:
    """Return `points` points, and the Gaussian kernel density (Scott's bandwidth) there.

    The points reach four bandwidths beyond the data. None if fewer than two similarities are
    finite, or all are the same.
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

    The batches share no sample if there are enough, else as few as possible. Raises ValueError if
    a batch contains all samples.
    """
    if batch_size >= n:
        raise ValueError(
            f"data.batch_size: {batch_size:,} is not below the number of training images ({n:,}), "
            "so there are no two mini-batches to compare"
        )
    order = permutation(seed, epoch, n, draw=Draw.PAIR + pair).tolist()
    both = order[: 2 * batch_size]
    return both[:batch_size], both[-batch_size:]


def angles_of(similarities: Sequence[float]) -> list[float]:
    """Return the finite similarities."""
    return [value for value in similarities if isfinite(value)]
