import json
import random

import numpy as np
import pytest
import torch

from kdx.checkpoints.packing import pack, unpack

VALUE = {
    "state": {0: {"step": torch.tensor(3.0), "buffer": None}, 1: {"exp": torch.ones(2, 3)}},
    "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "nesterov": False, "params": [0, 1]}],
    "$odd": "text",
    "python": random.getstate(),
    "bytes": torch.arange(5, dtype=torch.uint8),
}  # fmt: skip


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_what_is_packed_comes_back_through_json():
    plain, tensors = pack(VALUE)
    assert same(unpack(json.loads(json.dumps(plain)), tensors), VALUE)
    assert sorted(tensors) == ["bytes", "state.0.step", "state.1.exp"]


def test_tensors_are_copies():
    value = torch.zeros(2)
    _, tensors = pack({"a": value})
    value += 1
    assert tensors["a"].tolist() == [0, 0]


@pytest.mark.parametrize("value", [object(), np.float64(1), {1, 2}, b"x"])
def test_what_json_cannot_hold_is_refused_with_its_place(value):
    kind = type(value).__name__
    with pytest.raises(ValueError, match=rf"^groups\.0\.odd: {kind} .* cannot be saved in a check"):
        pack({"groups": [{"odd": value}]})


def test_a_missing_tensor_is_said():
    plain, _ = pack({"a": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"^the tensor 'a' is missing$"):
        unpack(plain, {})


def test_names_that_look_alike_are_kept_apart():
    value = {"x.y": torch.zeros(1), "x": {"y": torch.ones(1)}}
    assert same(unpack(*pack(value)), value)


def test_keys_that_json_cannot_hold_are_refused():
    with pytest.raises(ValueError, match=r"^groups: dict with keys \[\(1, 2\)\] cannot be saved"):
        pack({"groups": {(1, 2): 3}})
