"""What a layer costs, as torch counts it: multiply-adds of a forward pass, and memory.

A backward pass costs twice a forward pass in all three, so that their ratios are those of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor, UntypedStorage, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from expand.copying import copied
from expand.network import Hold, units

__all__ = ["Calls", "Cost", "Uncountable", "calls", "kept_bytes", "multiply_adds"]

Calls = Sequence[tuple[int, ...]]
"""The shapes of a layer's input, without the batch, for each call in a forward pass."""


_OF_META = (RuntimeError, TypeError, ValueError, IndexError, AssertionError)
"""What a user's forward, which ran on values, may raise on the meta device."""


class Uncountable(Exception):
    """A layer's forward wants values, which the meta device has not, or is called unbatched."""


@dataclass(frozen=True)
class Cost:
    """Multiply-adds a sample. `folded` has the sample's share of folding once for the batch.

    `unfolded` is None for a layer that is always folded, since its class has a forward of its own
    or its parts are no layers, and in sums it counts folded; `folded` for one that is never, and
    for its sums.
    """

    compact: float
    unfolded: float | None
    folded: float | None

    @property
    def cheapest(self) -> Literal["folded", "unfolded"]:
        """The mode with fewer multiply-adds."""
        if self.unfolded is None or self.folded is None:
            return "folded" if self.unfolded is None else "unfolded"
        return "unfolded" if self.unfolded < self.folded else "folded"

    def __add__(self, other: "Cost") -> "Cost":
        folded = None
        if self.folded is not None and other.folded is not None:
            folded = self.folded + other.folded
        return Cost(self.compact + other.compact, self._unfolded + other._unfolded, folded)

    @property
    def _unfolded(self) -> float:
        """Those unfolded, or folded where there is no other mode."""
        found = self.folded if self.unfolded is None else self.unfolded
        assert found is not None
        return found


@torch.no_grad()
def calls(model: nn.Module, paths: Sequence[str], shape: Sequence[int]) -> dict[str, Calls]:
    """Run a copy of `model` on two samples of a batch of `shape`, in eval mode; note its calls.

    Those of the layers at `paths`; one that its parent reads and never calls has none. Two, for
    norms that have no running statistics. Raises ValueError where the model cannot take them.
    """
    seen: dict[str, list[tuple[int, ...]]] = {path: [] for path in paths}
    trial = copied(model).eval()
    for path in paths:
        note = partial(_note, seen[path])
        trial.get_submodule(path).register_forward_pre_hook(note, with_kwargs=True)
    like = next(trial.parameters())  # there is one: the layers' weights
    try:
        trial(torch.zeros(2, *shape[1:], dtype=like.dtype, device=like.device))
    except Exception as error:  # whatever a user's forward may raise
        raise ValueError(
            f"input_shape: {type(model).__name__} fails on a batch of {[2, *shape[1:]]}: {error}"
        ) from error
    return {**seen}


def _note(seen: list[tuple[int, ...]], _: nn.Module, inputs: Any, named: dict[str, Any]) -> None:
    given = (*inputs, *named.values())  # a forward of its own may take more than one
    seen.append(tuple(given[0].shape[1:]))


def multiply_adds(layer: nn.Module, calls: Calls, batch: int) -> float:
    """Return the multiply-adds of a layer's calls, a sample, as `kept_bytes`; a unit folds once."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), Hold(layer):
        batch, _ = _run(layer, calls, batch)
    return counter.get_total_flops() / 2 / batch


def kept_bytes(layer: nn.Module, calls: Calls, batch: int) -> float:
    """Return what a layer's calls keep for the backward pass, a sample.

    On the meta device, in train mode, on a `batch`, of two at least where a BatchNorm wants them.
    Raises Uncountable.
    """
    kept: dict[int, UntypedStorage] = {}
    own = {value.untyped_storage()._cdata for value in layer.state_dict().values()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    for _, unit in units(layer):  # each product once, as in training, which holds it: `Hold` ...
        unit.__dict__["_fold_now"] = cache(unit._fold_now)  # ... does not where there are hooks
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    try:
        with hooks, torch.enable_grad():
            batch, outputs = _run(layer, calls, batch)
    finally:
        for _, unit in units(layer):
            del unit.__dict__["_fold_now"]
    size = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
    del outputs  # whose graphs hold what is kept
    return size / batch


def _run(layer: nn.Module, calls: Calls, batch: int) -> tuple[int, list[Tensor]]:
    if any(isinstance(module, _BatchNorm) for module in layer.modules()):
        batch = max(2, batch)
    like = next(layer.parameters())
    if any(len(shape) <= len(getattr(layer, "kernel_size", ())) for shape in calls):
        raise Uncountable("unbatched")
    try:
        return batch, [layer.train()(like.new_empty(batch, *shape)) for shape in calls]
    except _OF_META as error:
        raise Uncountable(str(error)) from error
