"""Whether tensors of a file fit a network: names, shapes, dtypes, and heads that may differ."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.util.words import listed

KINDS = {
    "float": {"float16", "bfloat16", "float32", "float64"},
    "int": {"uint8", "int8", "int16", "int32", "int64"},
}
"""Dtypes that are converted into one another as they are loaded."""

COUNTER = "num_batches_tracked"  # BatchNorm's, which old files lack

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A tensor of a file, by its keys. The first `depth` are of mappings, the others its name's."""

    keys: Keys
    depth: int
    value: Tensor


@dataclass(frozen=True)
class Fit:
    """Tensors by a network's names, and what is wrong with them.

    `problems` has a line for each kind, `names` the network's tensors in these. `aside` is left
    out on purpose; `seen` are the keys of everything in the same mappings.
    """

    tensors: dict[str, Tensor]
    problems: list[str]
    names: set[str]
    aside: list[str]
    seen: set[Keys]


def fit(below: Mapping[Keys, Entry], own: Mapping[str, Tensor], new: Collection[str]) -> Fit:
    """Compare entries of a file with the network of the state dict `own`.

    Left out are auxiliary heads that the network lacks, counters that became infinite as they were
    halved, and what `new` names, of the network; then also the heads of the file (`_is_head`).
    """
    named = {".".join(keys): entry for keys, entry in below.items()}
    holders = {e.keys[: e.depth] for name, e in named.items() if name in own}
    mine = {n: e for n, e in named.items() if not holders or e.keys[: e.depth] in holders}
    modules = {start for name in own for start in _starts(name)}
    unknown = [name for name in mine if name not in own]
    aside = [name for name in unknown if _is_head(name, modules, new)]
    aside += [name for name in mine if name in own and _overflown(name, mine[name].value)]
    skipped = {*new, *aside}
    tensors = {n: mine[n].value for n in own if n in mine and n not in skipped}
    both = [(name, value, own[name]) for name, value in tensors.items()]
    lacking = [name for name in own if name not in tensors and name not in new]
    missing = [name for name in lacking if not name.endswith(COUNTER)]
    shapes = {n: (tuple(a.shape), tuple(b.shape)) for n, a, b in both if a.shape != b.shape}
    dtypes = {n: (_dtype(a), _dtype(b)) for n, a, b in both if not _converts(a, b)}
    problems = {
        "missing keys": missing,
        "unexpected keys": [name for name in unknown if name not in aside],
        "shape mismatch": [f"{name} {a}, not {b}" for name, (a, b) in shapes.items()],
        "dtype mismatch": [f"{name} {a}, not {b}" for name, (a, b) in dtypes.items()],
    }
    lines = [f"  {what} ({len(all)}): {listed(all)}" for what, all in problems.items() if all]
    seen = {keys for keys in below if ".".join(keys) in mine}
    return Fit(tensors, lines, {*missing, *shapes, *dtypes}, aside, seen)


def _starts(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: at + 1]) for at in range(len(parts))]


def _is_head(name: str, modules: set[str], new: Collection[str]) -> bool:
    """Return whether a tensor of a file is of a head that the network does not have.

    That is an auxiliary one (`aux_classifier`, `AuxLogits`). If the network's head is `new`, it is
    also anything in the place of that, and any module at the top that the network lacks.
    """
    lacking = [start for start in _starts(name) if start not in modules]
    if any(start.rpartition(".")[2].lower().startswith("aux") for start in lacking):
        return True
    places = {head.rpartition(".")[0] for head in new} - {""}
    return any(start in places for start in _starts(name)) or bool(
        new and lacking and "." not in lacking[0]
    )


def _overflown(name: str, value: Tensor) -> bool:
    return name.endswith(COUNTER) and _kind(value) == "float" and bool(value.isinf().any())


def _converts(found: Tensor, own: Tensor) -> bool:
    """Return whether a conversion loses nothing but floating-point precision.

    Whole numbers that were saved as floating-point ones are taken back while these are exact, or
    if they are one counter.
    """
    if _kind(found) == _kind(own):
        return True
    if _kind(found) != "float" or _kind(own) not in ("int", "bool"):
        return False
    if found.shape != own.shape or not own.numel():  # another problem, and it may be huge; or none
        return True
    exact = found.ndim == 0 or found.abs().max() <= 2 / torch.finfo(found.dtype).eps
    return bool(exact and (found.to(own.dtype).to(found.dtype) == found).all())


def _dtype(tensor: Tensor) -> str:
    """Return the dtype, after "meta" or the layout if the tensor has no plain storage."""
    odd = ["meta"] * tensor.is_meta + [f"{tensor.layout}"] * (tensor.layout != torch.strided)
    return " ".join((*odd, f"{tensor.dtype}")).replace("torch.", "")


def _kind(tensor: Tensor) -> str:
    dtype = _dtype(tensor)
    return next((kind for kind, dtypes in KINDS.items() if dtype in dtypes), dtype)
