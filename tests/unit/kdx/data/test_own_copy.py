"""Each process reads a copy of a Dataset, which may open files when it is read."""

import os

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from kdx.data import Views, eval_loader
from kdx.data.own_copy import unopened
from tests.unit.kdx.data.test_from_torch import Pairs, opened, pairs, pixels, seen


class Opening(Pairs, Dataset):
    """Remembers, as an open file would, in which process it was read first."""

    def opened(self):
        vars(self).setdefault("process", os.getpid())
        assert self.process == os.getpid(), "opened in another process"
        return self.samples

    def __len__(self):
        return len(self.opened())

    def __getitem__(self, index):
        return self.opened()[index]


class Delegating:
    """A wrapper that cannot be copied: it looks up all that it lacks in what it wraps."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __len__(self):
        return len(self.wrapped)

    def __getitem__(self, index):
        return self.wrapped[index]

    def __getattr__(self, name):
        return getattr(self.wrapped, name)


@pytest.mark.parametrize("subsets", [0, 1, 2])
def test_workers_open_files_of_their_own(subsets):
    dataset = given = Opening(pairs(pixels()).samples)
    for _ in range(subsets):
        given = Subset(given, range(6))
    data = opened(given)
    views = Views(data.train, data.input, seed=0)
    views.checked([(0, 0)])  # read here first
    found = [batch.images for batch in eval_loader(views, batch_size=2, workers=2)]
    assert torch.equal(torch.cat(found), pixels())
    assert "process" not in vars(dataset)


def test_all_that_is_concatenated_is_copied():
    parts = [TensorDataset(pixels()), TensorDataset(pixels())]
    copies = unopened(ConcatDataset(parts)).datasets
    assert all(copy is not part for copy, part in zip(copies, parts, strict=True))
    assert copies[0].tensors is parts[0].tensors


def test_what_cannot_be_copied_is_read_itself():
    images = pixels()
    assert torch.equal(seen(opened(Delegating(pairs(images)))).images[0], images[0])
