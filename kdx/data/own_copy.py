"""A Dataset of which each process reads a copy: a file that it opens later is not shared.

Forked workers would inherit what was opened before them, with one position in the file for all.
A copy is shallow: what a Dataset keeps in an attribute when it is given, such as a reader of its
own class, all processes share as before.
"""

import copy
import os
from typing import Any

from torch.utils.data import Dataset, Subset

__all__ = ["OwnCopy", "beneath", "unopened"]


class OwnCopy:
    """Gives each process a copy of `given`, which itself is never read."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self._copy, self._of = None, 0

    def dataset(self) -> Any:
        """Return this process's copy."""
        if self._of != os.getpid():
            self._copy, self._of = unopened(self.given), os.getpid()
        return self._copy

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs."""
        return {"given": self.given, "_copy": None, "_of": 0}


def unopened(dataset: Any) -> Any:
    """Return a copy of a Dataset and of those within it, as of a Subset's, with the same data.

    The Dataset itself where its class cannot be copied.
    """
    try:
        made = copy.copy(dataset)
    except Exception:  # of a user's __getattr__ or __reduce__, which may do anything
        return dataset
    for name, value in list(getattr(made, "__dict__", {}).items()):
        if isinstance(value, Dataset):
            made.__dict__[name] = unopened(value)
        elif isinstance(value, list) and value and all(isinstance(e, Dataset) for e in value):
            made.__dict__[name] = [unopened(each) for each in value]  # of a ConcatDataset
    return made


def beneath(dataset: Any) -> Any:
    """Return the Dataset that a Subset, or a Subset of one, is of."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset
