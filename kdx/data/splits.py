"""Which samples are trained on, which are held out, which are left out."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.data.counter import Draw, permutation
from kdx.protocols import ImageData, ImageSource

Limit = int | Mapping[str, int] | None  # of each part, or by its name: train, validation, test


@dataclass(frozen=True)
class Splits:
    """The samples to train on, to choose by (None if nothing is held out), and to report.

    `numbers` [N] (int64) are the places of `train` among all training images.
    """

    train: ImageSource
    validation: ImageSource | None
    test: ImageSource
    numbers: Tensor


def split(data: ImageData, *, validation: float | int | None, limit: Limit, seed: int) -> Splits:
    """Hold out part of the training images, then keep at most `limit` samples of each part.

    `validation` is a number of samples (int) or a fraction of them (float). Both choices are
    stratified by label and depend only on the seed. Raises ValueError if a part would be empty.
    """
    if isinstance(limit, int):
        limit = dict.fromkeys(("train", "validation", "test"), limit)
    limits = limit or {}
    if any(most < 1 for most in limits.values()):
        raise ValueError(f"limit: {limits} leaves no samples; use 1 or more, or no limit")
    numbers, held_out = torch.arange(len(data.train)), None
    if validation is not None:
        count = _count(validation, len(numbers))
        chosen = stratified(data.train.labels, count, seed=seed, draw=Draw.VALIDATION)
        numbers = complement(chosen, len(numbers))
        held_out = _taken(data.train, _limited(chosen, data.train, limits.get("validation"), seed))
    numbers = _limited(numbers, data.train, limits.get("train"), seed)
    tested = _limited(torch.arange(len(data.test)), data.test, limits.get("test"), seed)
    return Splits(_taken(data.train, numbers), held_out, _taken(data.test, tested), numbers)


def stratified(labels: Tensor, count: int, *, seed: int, draw: int) -> Tensor:
    """Choose `count` of the samples at random, [count] int64, ascending.

    Shuffled, grouped by label, taken at even steps: each class's share is right to one sample.
    """
    shuffled = permutation(seed, 0, len(labels), draw=draw)
    grouped = shuffled[labels[shuffled].argsort(stable=True)]
    steps = (2 * torch.arange(count) + 1) * len(labels) // (2 * count)
    return grouped[steps].sort().values


def complement(chosen: Tensor, n: int) -> Tensor:
    """Return which of 0..n-1 are not in `chosen`, ascending, int64."""
    kept = torch.ones(n, dtype=torch.bool).index_fill(0, chosen, False)
    return kept.nonzero().flatten()


def _count(validation: float | int, n: int) -> int:
    count = round(validation * n) if isinstance(validation, float) else validation
    if not 0 < count < n:
        found = f"{validation} holds out {count} of {n} training samples"
        advice = f"use a fraction between 0 and 1, or 1 to {n - 1} samples"
        raise ValueError(f"validation: {found}; {advice}")
    return count


def _limited(numbers: Tensor, source: ImageSource, limit: int | None, seed: int) -> Tensor:
    if limit is None or limit >= len(numbers):
        return numbers
    return numbers[stratified(source.labels[numbers], limit, seed=seed, draw=Draw.LIMIT)]


def _taken(source: ImageSource, numbers: Tensor) -> ImageSource:
    """Return the samples at `numbers` [n], ascending: the source itself where they are all."""
    return source if len(numbers) == len(source) else source.subset(numbers)
