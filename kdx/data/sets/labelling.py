"""Labels as data sets have them, names or integers, to class names and class numbers."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdx.util.words import counted, listed, repeated

Placed = tuple[str, str | int]  # the place of a label, for errors, and the label


def number_classes(
    origin: str, splits: Mapping[str, Sequence[Placed]], classes: Sequence[str] | None
) -> tuple[list[str], list[Tensor], list[str]]:
    """Return class names, the labels [N] (int64) of each split, and notes.

    Without `classes` they are the labels of the first split, the one to train on: by name, or by
    number if all labels are integers. With `classes` labels are their names or, if all labels are
    integers and some are not names, their numbers from 0. Notes count classes without images in a
    split. ValueError lists labels that are not of the classes, with their places.
    """
    parts = [[(place, str(label).strip()) for place, label in part] for part in splits.values()]
    every = {label for part in parts for _, label in part}
    given = [str(name) for name in classes or ()]
    if twice := repeated(given):
        raise ValueError(f"{origin}: duplicate classes: {listed(twice)}")
    are_integers = all(re.fullmatch(r"[+-]?[0-9]+", label) for label in every)
    if numeric := are_integers and not every <= set(given):
        parts = [[(place, str(int(label))) for place, label in part] for part in parts]
    if classes is None:
        keys = names = sorted({label for _, label in parts[0]}, key=int if numeric else None)
        advice = f"the {next(iter(splits))} images have no such class"
    elif numeric:
        names, keys = given, [str(number) for number in range(len(given))]
        advice = f"classes has {len(names)} names, 0 to {len(names) - 1}"
    else:
        keys = names = given
        advice = f"classes has {listed(names)}"
    numbers = {key: number for number, key in enumerate(keys)}
    wrong = [f"{place}: {lab!r}" for part in parts for place, lab in part if lab not in numbers]
    if wrong:
        count = counted(len(wrong), "label")
        raise ValueError(f"{origin}: {count} of unknown classes: {listed(wrong, '; ')}; {advice}")
    notes = []
    for split, part in zip(splits, parts, strict=True):
        found = {numbers[label] for _, label in part}
        if missing := [name for number, name in enumerate(names) if number not in found]:
            count = counted(len(missing), "class", "classes")
            notes.append(f"{origin}: {count} without {split} images: {listed(missing)}")
    labels = [torch.tensor([numbers[lab] for _, lab in p], dtype=torch.int64) for p in parts]
    return names, labels, notes
