"""From labels and numbers as text to classes or targets, and a task.

N: samples, C: labels, D: numbers.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from kdx.data.sets.labelling import number_classes
from kdx.data.vectors import rarest, tenths
from kdx.protocols import Task
from kdx.tasks import MultiLabel, Regression
from kdx.util.words import counted, listed

Sample = tuple[str, Sequence[str]]  # the place of a sample, for errors, and its labels or numbers
Splits = Mapping[str, Sequence[Sample]]


class Targets(NamedTuple):
    """Names of classes or outputs, the task (None: classification), and notes.

    Of each split labels [N] (int64), for other tasks those to stratify by, and targets [N, K] or
    None.
    """

    names: list[str]
    task: Task | None
    labels: list[Tensor]
    targets: Sequence[Tensor | None]
    notes: list[str]


def one_label(origin: str, splits: Splits, classes: Sequence[str] | None) -> Targets:
    """Read one label a sample: see `number_classes`."""
    placed = {name: [(place, label) for place, (label,) in s] for name, s in splits.items()}
    names, labels, notes = number_classes(origin, placed, classes)
    return Targets(names, None, labels, [None] * len(labels), notes)


def many_labels(origin: str, splits: Splits, classes: Sequence[str] | None) -> Targets:
    """Read any number of labels a sample; as `number_classes`."""
    flat = {
        name: [(place, label) for place, labels in samples for label in labels]
        for name, samples in splits.items()
    }
    names, found, notes = number_classes(origin, flat, classes)
    if not names:
        raise ValueError(f"{origin}: no sample to train on has a label")
    targets = []
    for samples, numbers in zip(splits.values(), found, strict=True):
        counts = torch.tensor([len(labels) for _, labels in samples], dtype=torch.int64)
        rows = torch.arange(len(samples)).repeat_interleave(counts)
        target = torch.zeros(len(samples), len(names))
        targets.append(target.index_put_((rows, numbers), torch.ones(())))
    task = MultiLabel(num_classes=len(names), chance=float(targets[0].mean()))
    return Targets(names, task, [*map(rarest, targets)], targets, notes)


def numbers(origin: str, splits: Splits, names: Sequence[str], *, standardize: bool) -> Targets:
    """Read a number for each of `names`; ValueError lists texts that are none, or not finite.

    `standardize`: by mean and standard deviation of the first split; one that is 0 counts as 1.
    """
    every = [each for samples in splits.values() for each in samples]
    if wrong := [f"{place}: {text!r}" for place, s in every for text in s if not _finite(text)]:
        count = counted(len(wrong), "target")
        raise ValueError(f"{origin}: {count} not a finite number: {listed(wrong, '; ')}")
    values = [
        torch.tensor([[float(text) for text in texts] for _, texts in samples], dtype=torch.float64)
        for samples in splits.values()
    ]
    mean, std, notes = [0.0] * len(names), [1.0] * len(names), []
    if standardize:
        mean, std = values[0].mean(0).tolist(), values[0].std(0, correction=0).tolist()
        std = [each or 1.0 for each in std]
        scaled = [f"({n} - {m:.6g}) / {s:.6g}" for n, m, s in zip(names, mean, std, strict=True)]
        notes = [f"{origin}: networks learn {listed(scaled)}"]
    centre, scale = torch.tensor(mean).double(), torch.tensor(std).double()
    targets = [((each - centre) / scale).float() for each in values]
    task = Regression(outputs=names, mean=mean, std=std)
    return Targets(list(names), task, [*map(tenths, targets)], targets, notes)


def _finite(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False
