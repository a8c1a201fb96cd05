"""Weights whose numbers are of another dtype, absent, NaN or infinite."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdx.models import weights
from tests.faults.test_weights import network, refused

ODD = {
    "whole numbers": ({"0.weight": torch.ones(2, 3).int()}, "0.weight int32, not float32"),
    "complex": ({"0.bias": torch.ones(2) + 1j}, "0.bias complex64, not float32"),
    "float8": (
        {"0.bias": torch.ones(2).to(torch.float8_e4m3fn)},
        "0.bias float8_e4m3fn, not float32",
    ),
    "truth": ({"0.bias": torch.ones(2).bool()}, "0.bias bool, not float32"),
    "a counter": ({"1.num_batches_tracked": torch.tensor(0.5)}, "tracked float32, not int64"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("changes", "message"), ODD.values(), ids=ODD.keys())
def test_other_kinds_of_numbers(tmp_path, changes, message, suffix):
    state, path = network().state_dict() | changes, tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    refused(path, rf"state dict does not match the network\n  dtype mismatch .1.: .*{message}$")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2, device="meta"), "0.bias meta float32, not float32"),
        (torch.ones(2).to_sparse(), "0.bias sparse_coo float32, not float32"),
    ],
)
def test_tensors_without_numbers_of_their_own(tmp_path, value, message):
    torch.save(network().state_dict() | {"0.bias": value}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", message)


def test_half_and_double_precision_are_converted(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        state = {
            k: v.to(dtype) if v.is_floating_point() else v
            for k, v in network().state_dict().items()
        }
        save_file(state, tmp_path / "a.safetensors")
        weights.load(module := network(), tmp_path / "a.safetensors")
        assert torch.equal(module[0].weight, state["0.weight"].float())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_weights_that_are_not_finite(tmp_path, bad, name):
    state = network().state_dict()
    state[name].view(-1)[1] = bad
    save_file(state, tmp_path / "a.safetensors")
    count = state[name].numel()
    said = refused(tmp_path / "a.safetensors", r"NaN or Inf in 1 tensor: ")
    assert f"{name} (1 of {count} values). Training diverged, or the file is dam" in said


def test_numbers_that_become_infinite_in_the_network(tmp_path):
    state = {name: value.double() for name, value in nn.Linear(3, 2).state_dict().items()}
    state["weight"][0, 0] = 1e300
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"NaN or Inf in 1 tensor: weight \(1 of 6 values\)"):
        weights.load(nn.Linear(3, 2), tmp_path / "a.safetensors")


def test_a_mask_of_the_networks_own_may_be_infinite(tmp_path):
    masked = nn.Linear(2, 2)
    masked.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    save_file(masked.state_dict(), tmp_path / "a.safetensors")
    weights.load(masked, tmp_path / "a.safetensors")
