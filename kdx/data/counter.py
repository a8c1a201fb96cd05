"""Random numbers that are a pure function of (seed, epoch, index, draw).

Nothing here keeps state, so a number does not depend on what was drawn before it, nor on the
batch, the worker or the process that asks. Each word of the key is hashed in turn with SplitMix64
(Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014; constants
of the public-domain splitmix64.c by Sebastiano Vigna).
"""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Draw(IntEnum):
    """What a number is drawn for: draws of different numbers are independent."""

    ORDER = 0
    TOP = 1
    LEFT = 2
    FLIP = 3
    VALIDATION = 4
    LIMIT = 5
    TEST = 6
    SCENE = 7
    SIZE = 8
    NOISE = 9
    NOISE_LABEL = 10
    LIST = 11
    PARTNER = 12
    MIX = 13
    CLASS = 14
    RESIZED_CROP = 64  # the first of a block: see kdx.data.crops
    PAIR = 1024  # the first of a block, one a pair: see kdx_lab.analysis.similarity


def uniform(seed: int, epoch: ArrayLike, indices: ArrayLike, draw: ArrayLike) -> NDArray:
    """Return float64 numbers in [0, 1), of the arguments' broadcast shape (1-d at least).

    The words of the key are non-negative integers below 2^63.
    """
    return (_hash(seed, epoch, draw, indices) >> np.uint64(11)) * 2.0**-53


def integers(
    seed: int, epoch: ArrayLike, indices: ArrayLike, draw: ArrayLike, high: ArrayLike
) -> NDArray:
    """Return int64 numbers in [0, high); shapes as for `uniform`. `high` stays below 2^53."""
    return (uniform(seed, epoch, indices, draw) * high).astype(np.int64)


def permutation(seed: int, epoch: int, n: int, *, draw: int = Draw.ORDER) -> Tensor:
    """Return the numbers 0..n-1 in random order, [n] int64."""
    return torch.from_numpy(np.argsort(_hash(seed, epoch, draw, np.arange(n)), kind="stable"))


@contextmanager
def seeded(seed: int, epoch: int, index: int, draw: int) -> Iterator[None]:
    """Seed torch's CPU generator, NumPy's and Python's; give them back as they were."""
    word = int(_hash(seed, epoch, draw, index)[0] >> np.uint64(1))
    with generators_kept():
        torch.default_generator.manual_seed(word)
        seed_python_and_numpy(word)
        yield


@contextmanager
def generators_kept(gpus: Iterable[int] = ()) -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch: the CPU's and those of `gpus`."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_python_and_numpy(seed: int) -> None:
    """Seed the global generators of Python and NumPy, in [0, 2^64)."""
    random.seed(seed)
    words = [seed % 2**32, seed >> 32, 1]  # without the last one both would draw the same numbers
    np.random.seed(words if seed >= 2**32 else seed)


def _hash(*words: ArrayLike) -> NDArray[np.uint64]:
    """Chain the words: each picks the word-th output of the generator seeded by those before it."""
    state = np.zeros(1, np.uint64)
    for word in words:
        steps = np.asarray(word, np.int64).astype(np.uint64) + np.ones(1, np.uint64)
        state = _mix(state + steps * _GAMMA)
    return state


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
