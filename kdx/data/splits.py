"""Which samples are trained on, which are held out, which are left out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.data.counter import Draw, permutation
from kdx.data.sources import subset
from kdx.protocols import ImageData, ImageSource

__all__ = ["Splits", "complement", "split", "stratified"]


@dataclass(frozen=True)
class Splits:
    """The samples to train on, to choose by (None where nothing is held out), and to report."""

    train: ImageSource
    validation: ImageSource | None
    test: ImageSource


def split(
    data: ImageData, *, validation: float | int | None, limit: int | None, seed: int
) -> Splits:
    """Hold out part of the training images, then keep at most `limit` samples of each part.

    `validation` is a number of samples (int) or a fraction of them (float). Both choices are
    stratified by label and depend on the seed alone; a limit never moves a sample from one part
    to another. Raises ValueError where a part would be empty.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: {limit} leaves no samples; use 1 or more, or no limit")
    train, held_out = data.train, None
    if validation is not None:
        count = _count(validation, len(train))
        chosen = stratified(train.labels, count, seed=seed, draw=Draw.VALIDATION)
        rest = complement(chosen, len(train))
        train, held_out = subset(train, rest), subset(train, chosen)
    return Splits(
        _limited(train, limit, seed),
        None if held_out is None else _limited(held_out, limit, seed),
        _limited(data.test, limit, seed),
    )


def stratified(labels: Tensor, count: int, *, seed: int, draw: int) -> Tensor:
    """Choose `count` of the samples at random, [count] int64, ascending.

    Each class gets its share of them to within one sample: the samples are shuffled, grouped by
    label and taken at even steps.
    """
    shuffled = permutation(seed, 0, len(labels), draw=draw)
    grouped = shuffled[labels[shuffled].argsort(stable=True)]
    steps = (2 * torch.arange(count) + 1) * len(labels) // (2 * count)
    return grouped[steps].sort().values


def complement(chosen: Tensor, n: int) -> Tensor:
    """Return which of 0..n-1 are not in `chosen`, ascending, int64."""
    kept = torch.ones(n, dtype=torch.bool)
    kept[chosen] = False
    return kept.nonzero().flatten()


def _count(validation: float | int, n: int) -> int:
    count = round(validation * n) if isinstance(validation, float) else validation
    if not 0 < count < n:
        raise ValueError(
            f"validation: {validation} holds out {count} of {n} training samples; "
            f"use a fraction between 0 and 1, or 1 to {n - 1} samples"
        )
    return count


def _limited(source: ImageSource, limit: int | None, seed: int) -> ImageSource:
    if limit is None or limit >= len(source):
        return source
    return subset(source, stratified(source.labels, limit, seed=seed, draw=Draw.LIMIT))
