"""Nested values as JSON and named tensors, and back: instead of a pickle."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TENSOR, TUPLE, ITEMS = "$tensor", "$tuple", "$items"


def pack(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return `value` as JSON can hold it, and its tensors by the names that replace them.

    Takes None, bool, int, float, str, tensors, and dicts, lists and tuples of these; the keys of a
    dict may be None, bool, int, float or str. Raises ValueError, with the place, for anything else.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, "", tensors), tensors


def unpack(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what was packed; ValueError if a tensor is missing."""
    if isinstance(plain, list):
        return [unpack(value, tensors) for value in plain]
    if not isinstance(plain, dict):
        return plain
    if TENSOR in plain:
        if plain[TENSOR] not in tensors:
            raise ValueError(f"the tensor {plain[TENSOR]!r} is missing")
        return tensors[plain[TENSOR]]
    if TUPLE in plain:
        return tuple(unpack(plain[TUPLE], tensors))
    if ITEMS in plain:
        return {key: unpack(value, tensors) for key, value in plain[ITEMS]}
    return {key: unpack(value, tensors) for key, value in plain.items()}


def _pack(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        while where in tensors:  # "a.b" may be one key, or two
            where += "'"
        tensors[where] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {TENSOR: where}
    if isinstance(value, list | tuple):
        parts = [_pack(part, _inside(where, i), tensors) for i, part in enumerate(value)]
        return {TUPLE: parts} if isinstance(value, tuple) else parts
    if not isinstance(value, dict):
        what = f"{type(value).__name__} {value!r}"
        raise ValueError(f"{where}: {what} cannot be saved in a checkpoint")
    parts = [[key, _pack(part, _inside(where, key), tensors)] for key, part in value.items()]
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return dict(parts)
    if not all(key is None or type(key) in (bool, int, float, str) for key in value):
        raise ValueError(f"{where}: dict with keys {list(value)!r} cannot be saved in a checkpoint")
    return {ITEMS: parts}


def _inside(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)
