"""Tensors that fit a network in part: counters, indices, heads."""

import pytest
import torch
from torch import nn

from kdx.models import weights
from tests.unit.kdx.models.checkpoints import network, said_by, same, state


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_halved_counters_are_taken_back(tmp_path, dtype):
    halved = state() | {"0.1.num_batches_tracked": torch.tensor(5000)}
    torch.save({name: value.to(dtype) for name, value in halved.items()}, tmp_path / "a.pth")
    module, notes = said_by(tmp_path / "a.pth")
    expected = int(torch.tensor(5000.0).to(dtype))
    assert module.state_dict()["0.1.num_batches_tracked"] == expected
    assert notes == []


def test_a_counter_that_became_infinite_is_left_out(tmp_path):
    halved = state() | {"0.1.num_batches_tracked": torch.tensor(100_000)}
    torch.save({name: value.half() for name, value in halved.items()}, tmp_path / "a.pth")
    module, notes = said_by(tmp_path / "a.pth")
    assert module.state_dict()["0.1.num_batches_tracked"] == 0
    assert notes == [f"{tmp_path}/a.pth: left out: 0.1.num_batches_tracked"]


def test_indices_are_taken_back_only_if_they_are_exact(tmp_path):
    module = nn.Module()
    module.register_buffer("index", torch.tensor([1, 2000]))
    torch.save({"index": torch.tensor([3.0, 2001.0]).half()}, tmp_path / "a.pth")
    weights.load(module, tmp_path / "a.pth")
    assert module.state_dict()["index"].tolist() == [3, 2001]
    torch.save({"index": torch.tensor([3.0, 5000.0]).half()}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"dtype mismatch \(1\): index float16, not int64"):
        weights.load(module, tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["aux_classifier.4.weight", "AuxLogits.fc.bias", "aux1.conv.x"])
def test_auxiliary_heads_are_left_out_and_said(tmp_path, name):
    torch.save(state() | {name: torch.ones(3)}, tmp_path / "a.pth")
    module, notes = said_by(tmp_path / "a.pth")
    assert same(module, state())
    assert notes == [f"{tmp_path}/a.pth: left out: {name}"]


HEADS = {
    "1,000 classes": {"1.weight": torch.ones(1000, 4, 1, 1)},
    "one more": {"1.weight": torch.ones(2, 4, 1, 1)},
    "removed": {},
    "in its place": {"1.0.weight": torch.ones(8, 4), "1.2.weight": torch.ones(8, 8)},
    "another": {"projector.0.weight": torch.ones(8, 4)},
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_new_head_keeps_everything_else(tmp_path, head):
    body = {name: value for name, value in state().items() if name != "1.weight"}
    torch.save(body | head, tmp_path / "a.pth")
    module, (note,) = said_by(tmp_path / "a.pth", new={"1.weight"})
    assert same(module, body | {"1.weight": network(5)[1].weight})
    assert "new, not loaded: 1.weight" in note
    assert all(name in note for name in head)


def test_a_new_head_excuses_nothing_else(tmp_path):
    torch.save(state() | {"0.0.extra": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"unexpected keys \(1\): 0.0.extra\n"):
        said_by(tmp_path / "a.pth", new={"1.weight"})
    torch.save({"1.weight": torch.ones(9)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"missing keys \(6\): 0.0.weight"):
        said_by(tmp_path / "a.pth", new={"1.weight"})
