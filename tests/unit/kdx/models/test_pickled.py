"""Objects in files of torch.save: neither read nor run."""

import argparse
import collections
import enum
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.kdx.models.checkpoints import network, said_by, same, state


class Mode(enum.Enum):
    A = 1


class Options(dict[str, int]):
    """As EasyDict: a dict with attributes."""


OBJECTS = [
    argparse.Namespace(a=1), np.ones(2), Path("a"), Mode.A, {Mode.A: 1}, Options(a=1), {Mode.A},
    collections.defaultdict(list, a=[1]), nn.Linear(2, 2), torch.optim.SGD([torch.ones(1)]), eval,
]  # fmt: skip


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: type(thing).__name__)
def test_objects_beside_weights_are_neither_read_nor_run(tmp_path, thing):
    torch.save({"state_dict": state(), "thing": thing}, tmp_path / "a.pth")
    module, (note,) = said_by(tmp_path / "a.pth")
    assert same(module, state())
    assert "(not read)" in note


class Payload:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return exec, (f"open({str(self.place)!r}, 'w')",)


def test_code_beside_weights_is_not_run(tmp_path):
    torch.save({"state_dict": state(), "thing": Payload(tmp_path / "ran")}, tmp_path / "a.pth")
    assert "(not read)" in said_by(tmp_path / "a.pth")[1][0]
    assert not (tmp_path / "ran").exists()


def test_objects_in_place_of_weights_are_refused(tmp_path):
    torch.save({"model": network(), "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"refused: it holds torch.*Sequential.*Save the network's state_dict\(\)"
    ):
        said_by(tmp_path / "a.pth")
    torch.save(state() | {"1.weight": argparse.Namespace()}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"missing keys .1.: 1.weight\n.*Namespace \(not read\)$"):
        said_by(tmp_path / "a.pth")
