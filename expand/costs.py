"""What a layer costs: multiply-adds of a forward pass, compact, unfolded and folded.

A backward pass costs twice a forward pass in all three, so that their ratios are those of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import cast

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils.flop_counter import FlopCounterMode

from expand.algebra import cheapest_order
from expand.chains import Factor
from expand.copying import copied

__all__ = ["Calls", "Cost", "calls", "layer_cost", "training_cost"]

Calls = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
"""The shapes of a layer's input and output, without the batch, for each call in a forward pass."""


@dataclass(frozen=True)
class Cost:
    """Multiply-adds a sample. `folded` has the sample's share of folding once for the batch.

    `unfolded` is None for a layer that is always folded, since its class has a forward of its own.
    """

    compact: float
    unfolded: float | None
    folded: float

    def __add__(self, other: "Cost") -> "Cost":
        mine = self.folded if self.unfolded is None else self.unfolded
        its = other.folded if other.unfolded is None else other.unfolded
        return Cost(self.compact + other.compact, mine + its, self.folded + other.folded)


@torch.no_grad()
def calls(model: nn.Module, paths: Sequence[str], shape: Sequence[int]) -> dict[str, Calls]:
    """Run a copy of `model` on one sample of a batch of `shape`, in eval mode; note its calls.

    Those of the layers at `paths`; one that its parent reads and never calls has none. Raises
    ValueError where the model cannot take such a sample.
    """
    seen: dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {path: [] for path in paths}
    trial = copied(model).eval()
    for path in paths:
        note = partial(_note, seen[path])
        trial.get_submodule(path).register_forward_hook(note, with_kwargs=True, prepend=True)
    like = next(trial.parameters())  # there is one: the layers' weights
    try:
        trial(torch.zeros(1, *shape[1:], dtype=like.dtype, device=like.device))
    except Exception as error:  # whatever a user's forward may raise
        raise ValueError(
            f"input_shape: {type(model).__name__} fails on a batch of {list(shape)}: {error}"
        ) from error
    return dict(seen)


def _note(
    seen: list[tuple[tuple[int, ...], tuple[int, ...]]],
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    named: dict[str, Tensor],
    output: Tensor,
) -> None:
    (input,) = inputs or named.values()
    seen.append((tuple(input.shape[1:]), tuple(output.shape[1:])))


def layer_cost(
    layer: nn.Module,
    factors: Sequence[Factor],
    stride_at: int,
    calls: Calls,
    *,
    batch: int,
    chainable: bool,
    identity: bool = False,
) -> Cost | None:
    """Return the cost of a layer and of its factors; None where it is never called.

    With `identity` an unfolded convolution runs a second time, for its input.
    """
    if not calls:
        return None
    weight = cast("Tensor", layer.weight)
    compact = sum(weight.numel() * _positions(output, layer) for _, output in calls)
    if not factors:
        return Cost(compact, compact, compact)
    groups = getattr(layer, "groups", 1)
    fold, _ = cheapest_order([(f.outputs, f.inputs // groups, f.kernel) for f in factors])
    unfolded = [_chain_cost(layer, factors, stride_at, shape) for shape, _ in calls]
    skip = compact if identity and not isinstance(layer, nn.Linear) else 0
    return Cost(compact, sum(unfolded) + skip if chainable else None, compact + fold / batch)


def _chain_cost(
    layer: nn.Module, factors: Sequence[Factor], stride_at: int, shape: tuple[int, ...]
) -> int:
    """Multiply-adds of a chain: padding before the first factor, the stride on one of them."""
    if isinstance(layer, nn.Linear):
        return sum(factor.weights for factor in factors) * prod(shape[:-1])
    conv = cast("nn.Conv2d", layer)
    around = conv._reversed_padding_repeated_twice  # last dimension first, both of its sides
    padded = [sum(around[i : i + 2]) for i in range(0, len(around), 2)][::-1]
    sizes = [size + more for size, more in zip(shape[-len(padded) :], padded, strict=True)]
    total = 0
    for index, factor in enumerate(factors):
        strides = conv.stride if index == stride_at else [1] * len(sizes)
        sizes = [
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, dilation, stride in zip(
                sizes, factor.kernel, conv.dilation, strides, strict=True
            )
        ]
        total += factor.weights * prod(sizes)
    return total


def _positions(output: tuple[int, ...], layer: nn.Module) -> int:
    """How often the layer's weight is applied to a sample."""
    return prod(output[:-1]) if isinstance(layer, nn.Linear) else prod(output[1:])


def training_cost(layer: nn.Module, calls: Calls, batch: int) -> tuple[float, float]:
    """Return multiply-adds of a forward pass, and bytes kept for the backward pass, a sample.

    Of a convolution on the meta device, in train mode, whatever it is computed from: torch counts
    them on a `batch`, of two at least, which BatchNorm wants.
    """
    batch, like = max(2, batch), next(layer.parameters())
    kept: dict[int, UntypedStorage] = {}
    own = {value.untyped_storage()._cdata for value in layer.state_dict().values()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter, hooks, torch.enable_grad():
        outputs = [layer.train()(like.new_empty(batch, *shape)) for shape, _ in calls]
    size = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
    del outputs  # whose graphs hold what is kept
    return counter.get_total_flops() / 2 / batch, size / batch
