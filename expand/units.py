"""The expanded layer: a unit owns the factors, and the layer's own forward runs on their product.

A unit is the layer itself with another class: `ExpandedConv2d` is a `Conv2d` whose `weight` and
`bias` are computed from `factors`. So stride, padding mode, dilation, groups, hooks, and the
forward of any subclass keep their meaning, and every parent that reads `.weight` finds it.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple, Self, SupportsIndex, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expand.algebra import Order, regroup
from expand.folding import Ticket, fold, fold_once

__all__ = [
    "CONVOLUTIONS",
    "MODES",
    "ExpandedUnit",
    "Mode",
    "is_chainable",
    "pads_in_convolution",
    "set_mode",
    "unit_class",
    "units",
]

Mode = Literal["folded", "unfolded", "nonlinear"]
MODES: tuple[Mode, ...] = ("folded", "unfolded", "nonlinear")

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_OWN_FORWARDS = {cls.forward for cls in (*CONVOLUTIONS, nn.Linear)}

_Key = tuple[object, ...]


class _Folded(NamedTuple):
    """A product, and what it was made from; a `key` of None is good for one forward pass."""

    weight: Tensor
    bias: Tensor | None
    key: _Key | None
    ticket: Ticket


class ExpandedUnit(nn.Module):
    """Mixed in before the class of the layer that is expanded; made by `expand_layer` alone.

    `mode` says how the unit runs:
    - folded: the factors are multiplied into the compact weight and bias, inside the graph, and
      the layer's own forward runs with them. The product is made once, until a factor changes or
      the graph is run backwards;
    - unfolded: the chain runs factor by factor, padding on the first, stride on one of them;
    - nonlinear: the same with a ReLU between the factors: the nonlinear counterpart that
      initialises an ExpandNet (ExpandNets paper, 2.1).
    A layer whose class has a forward of its own is folded in every mode: see `chainable`.
    """

    factors: Sequence[nn.Linear]  # an nn.ModuleList of Linears or convolutions
    mode: Mode
    order: Order
    _running: _Folded | None  # during the unit's own forward
    _kept: _Folded | None  # between forwards

    @property
    def weight(self) -> Tensor:
        """The compact weight, as the layer had it. What is written to it is lost."""
        return (self._running or self._product()).weight

    @property
    def bias(self) -> Tensor | None:
        """The compact bias [out], or None. What is written to it is lost."""
        return (self._running or self._product()).bias

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        if name in ("weight", "bias"):
            raise AttributeError(
                f"the {name} of an expanded layer is computed from its factors: set theirs, "
                "or set it before expanding or after compressing"
            )
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """Pickle by the layer's class: the unit's own class exists in this process alone."""
        state = {**self.__dict__, "_running": None, "_kept": None}
        return _empty_unit, (type(self).__mro__[2],), state

    @property
    def chainable(self) -> bool:
        """Whether a chain can stand for the layer: its class has torch's own forward."""
        return is_chainable(type(self).__mro__[2])  # [unit, ExpandedUnit, layer, ...]

    def fold(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Multiply the factors in `dtype`, differentiably: the layer's weight, and its bias."""
        weights, biases, groups = self._chain(dtype)
        return fold(weights, biases, groups=groups, order=self.order)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of training; a product that was kept is forgotten."""
        self._kept = None
        return super().train(mode)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Run the layer in the unit's mode."""
        if self.mode != "folded" and self.chainable:
            return self._run_chain(*inputs, **named)
        self._running = self._product()
        try:
            return super().forward(*inputs, **named)
        finally:
            self._running = None

    def _product(self) -> _Folded:
        """The product in float32 at least, whatever autocast says, in the factors' own type."""
        key = self._state()
        kept = self._kept
        if key is not None and kept is not None and kept.key == key and not kept.ticket.spent:
            return kept
        ticket, own = Ticket(), self.factors[0].weight.dtype
        weights, biases, groups = self._chain(torch.promote_types(own, torch.float32))
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            weight, bias = fold(weights, biases, groups=groups, order=self.order)
        else:
            weight, bias = fold_once(ticket, weights, biases, groups=groups, order=self.order)
        folded = _Folded(weight.to(own), None if bias is None else bias.to(own), key, ticket)
        if key is not None:
            self._kept = folded
        return folded

    def _state(self) -> _Key | None:
        """What the product depends on; None where it is made anew at every pass.

        That is under torch.compile and torch.func, which swap the factors, in the middle of a
        backward pass, where activation checkpointing recomputes, and for inference tensors.
        """
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1:
            return None
        if torch._C._are_functorch_transforms_active():
            return None
        state: list[object] = [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
        for factor in self.factors:
            for tensor in (factor.weight, factor.bias):
                if tensor is None:
                    continue
                if type(tensor) is not nn.Parameter or tensor.is_inference():
                    return None
                state += (tensor.data_ptr(), tensor._version, tensor.requires_grad)
        return tuple(state)

    def _chain(self, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor | None], int]:
        """The factors' weights and biases in the type to multiply in, with the layer's groups."""
        groups = getattr(self, "groups", 1)
        weights: list[Tensor] = []
        biases: list[Tensor | None] = []
        for factor in self.factors:
            weight, bias = factor.weight.to(dtype), factor.bias
            weights.append(regroup(weight, getattr(factor, "groups", 1), groups))
            biases.append(None if bias is None else bias.to(dtype))
        return weights, biases, groups

    def _run_chain(self, input: Tensor) -> Tensor:
        if isinstance(self, CONVOLUTIONS) and not pads_in_convolution(self):
            mode = cast("str", self.padding_mode)
            amounts = cast("list[int]", self._reversed_padding_repeated_twice)
            input = F.pad(input, amounts, mode="constant" if mode == "zeros" else mode)
        for index, factor in enumerate(self.factors):
            if index and self.mode == "nonlinear":
                input = F.relu(input)
            input = factor(input)
        return input

    def reset_parameters(self) -> None:
        """Draw every factor anew, as torch initialises a layer of its shape."""
        for factor in self.factors:
            factor.reset_parameters()

    def extra_repr(self) -> str:
        """Say what the layer is, without its factors, and how it runs."""
        return f"{super().extra_repr()}, mode={self.mode}"


def is_chainable(cls: type[nn.Module]) -> bool:
    """Whether a chain can stand for a layer of this class: its forward is torch's own."""
    return cls.forward in _OWN_FORWARDS


def pads_in_convolution(conv: nn.Module) -> bool:
    """Whether the padding is zeros and numbers: then the first factor's convolution does it."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def units(model: nn.Module) -> Iterator[tuple[str, ExpandedUnit]]:
    """Yield the path and the unit of every expanded layer in `model`."""
    for path, module in model.named_modules():
        if isinstance(module, ExpandedUnit):
            yield path, module


def set_mode(model: nn.Module, mode: Mode, paths: Collection[str] | None = None) -> None:
    """Run the units of `model`, or those at `paths`, in `mode` from now on.

    Raises ValueError for an unknown mode and where there is no unit.
    """
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r} is not one of {', '.join(MODES)}")
    found = [unit for path, unit in units(model) if paths is None or path in paths]
    if not found:
        raise ValueError(f"{type(model).__name__} has no expanded layer to run as {mode!r}")
    for unit in found:
        unit.mode = mode


@cache
def unit_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The class of units for layers of class `cls`."""
    return type(f"Expanded{cls.__name__}", (ExpandedUnit, cls), {"__module__": __name__})


def _empty_unit(cls: type[nn.Module]) -> nn.Module:
    """A unit for a layer of class `cls` whose attributes are still to come, for unpickling."""
    unit = unit_class(cls)
    return unit.__new__(unit)
