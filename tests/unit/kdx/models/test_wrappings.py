"""One checkpoint as people wrap it: found by the network's names, and a line says so."""

import argparse
import collections

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from kdx.models import weights
from kdx.models.wrappings import INSERTED
from tests.unit.kdx.models.checkpoints import network, renamed, said_by, same, state


def inserted(part):
    return {name.replace("0.1.", f"0.{part}.1."): value for name, value in state().items()}


def other():
    return {f"{name}.weight": torch.zeros(2) for name in ("a", "b")}


OPTIMIZER = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}
LIGHTNING = {"state_dict": renamed("model."), "hyper_parameters": {"a": 1}, "callbacks": {}}
DISTILLED = {f"teacher.{name}": value for name, value in other().items()}

WRAPPED = {
    "compiled": (renamed("_orig_mod."), "state dict at '_orig_mod'"),
    "DDP of compiled": (renamed("module._orig_mod."), "state dict at 'module._orig_mod'"),
    "a part in DataParallel": (inserted("module"), "removed from names: module"),
    "checkpointed": (inserted("_checkpoint_wrapped_module"), "removed from names: _checkpoint_wra"),
    "student": (renamed("student."), "state dict at 'student'"),
    "model": (renamed("model."), "state dict at 'model'"),
    "backbone and head": (
        renamed("backbone.") | {"head.weight": torch.ones(2)},
        "state dict at 'backbone'; also in the file: 'head' (1 tensor)",
    ),
    "any prefix": (renamed("encoder_q."), "state dict at 'encoder_q'"),
    "net": (
        {"net": state(), "acc": 93.1, "epoch": 7},
        "state dict at 'net'; also in the file: 'acc', 'epoch'",
    ),
    "model_state_dict": (
        {"model_state_dict": state(), "optimizer_state_dict": OPTIMIZER},
        "state dict at 'model_state_dict'; also in the file: 'optimizer_state_dict'",
    ),
    "Lightning": (
        LIGHTNING,
        "state dict at 'state_dict.model'; also in the file: 'hyper_parameters', 'callbacks'",
    ),
    "Lightning with a teacher": (
        {"state_dict": renamed("student.") | DISTILLED},
        "state dict at 'state_dict.student'; also in the file: 'state_dict.teacher' (2 tensors)",
    ),
    "model and average": (
        {"model": state(), "model_ema": state(1)},
        "state dict at 'model'; also in the file: 'model_ema' (8 tensors)",
    ),
    "beside": (state() | {"epoch": 3}, "also in the file: 'epoch'"),
    "averaged": (
        AveragedModel(network()).state_dict(),
        "state dict at 'module'; also in the file: 'n_averaged' (1 tensor)",
    ),
    "arguments": (
        {"model": state(), "args": argparse.Namespace(lr=0.1)},
        "state dict at 'model'; also in the file: 'args', argparse.Namespace (not read)",
    ),
    "numbers of NumPy": (
        {"state_dict": state(), "best": np.float64(0.5)},
        "state dict at 'state_dict'; also in the file: 'best', numpy._core.multiarray.scalar (not "
        "read), numpy.dtype (not read)",
    ),
}


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.ckpt", "a.pth.tar", "pytorch_model.bin", "a"])
@pytest.mark.parametrize(("content", "line"), WRAPPED.values(), ids=WRAPPED.keys())
def test_wrapped_weights_are_found_and_said(tmp_path, content, line, name):
    torch.save(content, path := tmp_path / name)
    module, (note,) = said_by(path)
    assert same(module, state())
    assert note.startswith(f"{path}: {line}")


@pytest.mark.parametrize(("content", "line"), [WRAPPED["compiled"], WRAPPED["backbone and head"]])
def test_safetensors_are_wrapped_too(tmp_path, content, line):
    save_file(content, path := tmp_path / "a.safetensors")
    module, notes = said_by(path)
    assert same(module, state())
    assert notes == [f"{path}: {line}"]


def test_a_plain_state_dict_needs_no_words(tmp_path):
    torch.save(state(), tmp_path / "a.pth")
    assert said_by(tmp_path / "a.pth")[1] == []


def test_by_default_the_log_is_told(tmp_path, caplog):
    torch.save({"net": state()}, tmp_path / "a.pth")
    weights.load(network(1), tmp_path / "a.pth")
    assert caplog.messages == [f"{tmp_path}/a.pth: state dict at 'net'"]


def test_a_key_chooses(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(
        {"model": state(), "model_ema": {f"module.{n}": v for n, v in state(1).items()}}, path
    )
    for key in ("model_ema", "model_ema.module"):
        module, (note,) = said_by(path, key=key)
        assert same(module, state(1))
        assert note == (
            f"{path}: state dict at 'model_ema.module'; also in the file: 'model' (8 tensors)"
        )
    with pytest.raises(
        ValueError,
        match=r"key: no tensors below 'ema'; the file holds 'model' \(8 t.*'model_ema' \(8 ",
    ):
        said_by(path, key="ema")
    with pytest.raises(ValueError, match=r"state dict does not match the network\n  missing keys"):
        said_by(path, key="")


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ({"net": state(), "ema": state(1)}, "'net', 'ema'"),
        ({"student": state(), "teacher": state(1)}, "'student', 'teacher'"),
        (
            {"state_dict": renamed("student.") | renamed("teacher.")},
            "'state_dict.student', 'state_dict.teacher'",
        ),
    ],
)
def test_several_that_fit_are_refused(tmp_path, content, places):
    torch.save(content, tmp_path / "a.pth")
    if "net" in content:  # of these the first is the usual place
        assert said_by(tmp_path / "a.pth")[1] == [
            f"{tmp_path}/a.pth: state dict at 'net'; also in the file: 'ema' (8 tensors)"
        ]
        return
    with pytest.raises(ValueError, match=f"ambiguous: 2 state dicts fit, at {places}: choose one"):
        said_by(tmp_path / "a.pth")


def test_two_nets_of_one_shape_are_not_taken_in_part(tmp_path):
    torch.save(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="ambiguous: 2 state dicts fit, at '0', '1'"):
        weights.load(nn.Linear(2, 2), tmp_path / "a.pth")


def test_what_a_network_calls_its_own_is_no_wrapper(tmp_path):
    for part in INSERTED:
        named = nn.Sequential()
        named.add_module(part, nn.Linear(2, 2))
        torch.save(named.state_dict(), tmp_path / "a.pth")
        notes = []
        weights.load(named, tmp_path / "a.pth", note=notes.append)
        assert notes == []


def test_the_network_may_be_the_wrapper(tmp_path):
    wrapper = nn.Sequential(collections.OrderedDict(net=network(5)))
    torch.save({"model": renamed("module.")}, tmp_path / "a.pth")
    notes = []
    weights.load(wrapper, tmp_path / "a.pth", note=notes.append)
    assert same(wrapper[0], state())
    assert notes == [f"{tmp_path}/a.pth: for 'net'; state dict at 'model.module'"]
    torch.save(state() | {"extra": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"missing keys \(7\): net.0.0.weight"):
        weights.load(wrapper, tmp_path / "a.pth")


def test_what_does_not_fit_says_where_it_was_looked_for(tmp_path):
    content = {"model": renamed("module.") | {"module.extra": torch.ones(1)}, "epoch": 3}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(weights.Misfit) as caught:
        weights.load(module := network(5), tmp_path / "a.pth", network="smallnet")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/a.pth: state dict does not match the network smallnet",
        "  unexpected keys (1): extra",
        "  the file: state dict at 'model.module'; also in the file: 'epoch'",
    ]
    assert same(module, state(5))


def test_mappings_in_one_another_end(tmp_path):
    loop = {"model": state()}
    loop["self"] = loop["again"] = loop
    torch.save(loop, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a.pth: ambiguous|refused: it holds more than 100,000"):
        said_by(tmp_path / "a.pth", key="self")
    torch.save({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"two tensors are named 'a.b'"):
        said_by(tmp_path / "a.pth")
