"""Nested values as JSON and named tensors, and back: what a pickle would do, without one."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["pack", "unpack"]

TENSOR, TUPLE, ITEMS = "$tensor", "$tuple", "$items"


def pack(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return what JSON can hold of `value`, and the tensors in it, by the names put in their place.

    Takes None, bool, int, float, str, tensors, and dicts, lists and tuples of these; dicts may
    have keys of any of the plain kinds. Raises ValueError for anything else, saying where.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, "", tensors), tensors


def unpack(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what was packed; ValueError where a tensor is missing."""
    again = lambda value: unpack(value, tensors)  # noqa: E731
    if isinstance(plain, list):
        return [again(value) for value in plain]
    if not isinstance(plain, dict):
        return plain
    if TENSOR in plain:
        if plain[TENSOR] not in tensors:
            raise ValueError(f"the tensor {plain[TENSOR]!r} is missing")
        return tensors[plain[TENSOR]]
    if TUPLE in plain:
        return tuple(again(plain[TUPLE]))
    if ITEMS in plain:
        return {again(key): again(value) for key, value in plain[ITEMS]}
    return {key: again(value) for key, value in plain.items()}


def _pack(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    inside: Callable[[Any, Any], Any] = lambda part, name: _pack(  # noqa: E731
        part, f"{where}.{name}" if where else str(name), tensors
    )
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        while where in tensors:  # "a.b" may be one key, or two
            where += "'"
        tensors[where] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {TENSOR: where}
    if isinstance(value, tuple):
        return {TUPLE: [inside(part, i) for i, part in enumerate(value)]}
    if isinstance(value, list):
        return [inside(part, i) for i, part in enumerate(value)]
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: inside(part, key) for key, part in value.items()}
        return {ITEMS: [[inside(k, f"{k} as a key"), inside(v, k)] for k, v in value.items()]}
    raise ValueError(f"{where}: {type(value).__name__} {value!r} cannot be kept in a checkpoint")
