"""Weights from elsewhere: hostile, damaged or useless files are refused, and nothing in them runs.

Each planted payload would make the file `ran`.
"""

import io
import json
import os
import pickle
import re
import struct
import zipfile
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdx.models import weights
from kdx.protocols import InputSpec

SPEC = InputSpec(channels=3, size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
ABOUT = {
    "input": {"channels": 1, "size": 8, "mean": [0.5], "std": [1.0]},
    "classes": 2,
    "extra": {},
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def refused(path, message):
    """Load `path` into a network that must stay as it is; return what was said."""
    module = network()
    with pytest.raises(ValueError, match=message) as raised:
        weights.load(module, path)
    assert str(raised.value).startswith(str(path))
    before, after = network().state_dict(), module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    return str(raised.value)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def torch_file(content, **options):
    written = io.BytesIO()
    torch.save(content, written, **options)
    return written.getvalue()


def with_entry(content, name, data):
    """Return a zip archive like `content`, with one more file in it."""
    written = io.BytesIO(content)
    with zipfile.ZipFile(written, "a") as archive:
        archive.writestr(name, data)
    return written.getvalue()


WRAPPED = {
    "state dict": lambda payload: torch_file(payload),
    "value": lambda payload: torch_file({"state_dict": {"0.weight": payload}}),
    "beside": lambda payload: torch_file({**network().state_dict(), "optimizer": payload}),
    "key": lambda payload: torch_file({(payload,): 1}),
    "legacy": lambda payload: torch_file(payload, _use_new_zipfile_serialization=False),
    "pickle 2": lambda payload: pickle.dumps({"0.weight": payload}, protocol=2),
    "pickle 5": lambda payload: pickle.dumps({"0.weight": payload}, protocol=5),
}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_a_planted_payload_is_not_run(tmp_path, wrap, suffix):
    trace, path = tmp_path / "ran", tmp_path / f"a{suffix}"
    path.write_bytes(wrap(Payload(f"touch {trace}")))
    said = refused(path, r"refused: it |not a readable checkpoint: only tensors are loaded")
    assert "nothing was run" in said
    assert "weights_only" not in said  # torch's own advice
    if suffix == ".safetensors":
        assert re.search("refused: it is a (zip archive|pickle) under another name", said)
    elif wrap is not WRAPPED["pickle 5"]:
        assert re.search(r"refused: it holds \w+\.system", said)
    assert not trace.exists()


def test_a_payload_in_a_run_directory_is_not_run(tmp_path):
    trace = tmp_path / "ran"
    (tmp_path / "student.safetensors").write_bytes(torch_file(Payload(f"touch {trace}")))
    with pytest.raises(ValueError, match=r"student.safetensors: not .*: refused: it is a zip arch"):
        weights.load(network(), tmp_path)
    assert not trace.exists()


def test_torchscript_is_refused(tmp_path):
    content = with_entry(torch_file(network().state_dict()), "archive/constants.pkl", b"N.")
    (tmp_path / "a.pt").write_bytes(content)
    refused(tmp_path / "a.pt", "refused: it is a TorchScript archive, which holds code; nothing")


def test_archives_that_grow_are_refused(tmp_path):
    state, path = {"0.weight": torch.zeros(1000, 1000)}, tmp_path / "a.pth"
    with (
        zipfile.ZipFile(io.BytesIO(torch_file(state))) as whole,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    assert path.stat().st_size < 10_000
    refused(path, "refused: it is compressed, which torch.save never does")
    content = bytearray(torch_file(state))
    at = content.rindex(b"PK\x01\x02")  # the directory's entry of the last part
    content[at + 24 : at + 28] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    refused(path, "refused: its parts are larger than the whole file|not a readable checkpoint")


def safetensors(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(*, dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS = {
    "empty": b"",
    "cut in its length": b"\x08\0\0",
    "cut in its header": safetensors({"a": entry()})[:20],
    "longer than memory": safetensors(b"{}", length=2**63),
    "longer than the file": safetensors(b"{}", length=10**6),
    "longer than reasonable": safetensors(b" " * (2**23 + 8)),
    "no JSON": safetensors(b"{'a': 1}"),
    "deep": safetensors(b"[" * 100_000),
    "overlap": safetensors({"a": entry(), "b": entry()}, bytes(4)),
    "hole": safetensors({"a": entry(offsets=(4, 8))}, bytes(8)),
    "beyond the end": safetensors({"a": entry(offsets=(0, 400), shape=(100,))}, bytes(4)),
    "backwards": safetensors({"a": entry(offsets=(4, 0))}, bytes(4)),
    "negative": safetensors({"a": entry(shape=(-1,))}, bytes(4)),
    "overflow": safetensors({"a": entry(shape=(2**40, 2**40))}, bytes(4)),
    "unknown type": safetensors({"a": entry(dtype="PICKLE")}, bytes(4)),
    "more than it says": safetensors({"a": entry()}, bytes(400)),
    "deep metadata": safetensors({"__metadata__": {"kdx": "[" * 100_000}}),
    "long number": safetensors({"__metadata__": {"kdx": "9" * 5000}}),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_hostile_headers(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refused(path, "not a readable safetensors file: ")


INPUTS = {
    "a huge size": {"size": 10**9},
    "a size that is text": {"size": "8"},
    "no channels": {"channels": 0},
    "truth for a number": {"channels": True},
    "NaN": {"mean": [float("nan")]},
    "text": {"mean": "0"},
    "a std of zero": {"std": [0.0]},
    "too many": {"mean": [0.5, 0.5], "std": [1.0, 1.0]},
    "an unknown key": {"depth": 3},
    "a list": [],
}


@pytest.mark.parametrize("change", INPUTS.values(), ids=INPUTS.keys())
def test_inputs_that_no_network_takes(tmp_path, change):
    about = ABOUT | {"input": change if change == [] else ABOUT["input"] | change}
    save_file(network().state_dict(), tmp_path / "a.safetensors", {"kdx": json.dumps(about)})
    refused(tmp_path / "a.safetensors", "metadata")


@pytest.mark.parametrize("change", [{"classes": "2"}, {"classes": True}, {"extra": []}])
def test_metadata_of_another_kind(tmp_path, change):
    text = json.dumps(ABOUT | change)
    save_file(network().state_dict(), tmp_path / "a.safetensors", {"kdx": text})
    refused(tmp_path / "a.safetensors", "metadata.(classes|extra)")


def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    (tmp_path / "b.safetensors").symlink_to("/dev/zero")
    for name in ("a.pth", "b.safetensors"):
        refused(tmp_path / name, "a pipe or a device, not a weight file")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_flipped_and_missing_bytes_are_refused_or_change_a_number(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    weights.save(network(), tmp_path / "a.safetensors", input=SPEC, classes=2)
    torch.save(network().state_dict(), tmp_path / "a.pth")
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        for content in (bytes(flipped), whole[:at]):
            path.write_bytes(content)
            module = network()
            with suppress(ValueError):
                weights.load(module, path)
            assert all(value.isfinite().all() for value in module.state_dict().values())
