"""The expanded layer: a unit owns the factors, and the layer's own forward runs on their product.

A unit is the layer itself with another class: `ExpandedConv2d` is a `Conv2d` whose `weight` and
`bias` are computed from `factors`. So stride, padding mode, dilation, groups, hooks, and the
forward of any subclass keep their meaning, and every parent that reads `.weight` finds it.
"""

from collections.abc import Sequence
from functools import cache
from threading import get_ident
from typing import Literal, SupportsIndex, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from expand.algebra import Order, regroup
from expand.folding import fold, fold_once

__all__ = [
    "CONVOLUTIONS",
    "MODES",
    "OWN_NAMES",
    "ExpandedUnit",
    "Mode",
    "is_chainable",
    "pads_in_convolution",
    "unit_class",
]

Mode = Literal["folded", "unfolded", "nonlinear"]
MODES: tuple[Mode, ...] = ("folded", "unfolded", "nonlinear")

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
FACTORS = (*CONVOLUTIONS, nn.Linear)
_OWN_FORWARDS = {cls.forward for cls in FACTORS}
_OWN_CONVOLVES = {cls._conv_forward for cls in (nn.Conv1d, nn.Conv2d, nn.Conv3d)}

Product = tuple[Tensor, Tensor | None]
"""The compact weight and bias of a unit."""

OWN_NAMES = ("factors", "fold", "layer_class", "mode", "order", "_held", "_running")
"""The attributes of a unit, which a layer that is to become one must not have."""


class ExpandedUnit(nn.Module):
    """Mixed in before the class of the layer that is expanded; made by `expand_layer` alone.

    `mode` says how the unit runs:
    - folded: the factors are multiplied into the compact weight and bias, inside the graph, and
      the layer's own forward runs with them;
    - unfolded: the chain runs factor by factor, padding on the first, stride on one of them;
    - nonlinear: the same with a ReLU between the factors: the nonlinear counterpart that
      initialises an ExpandNet (ExpandNets paper, 2.1).
    A layer whose class has a forward of its own is folded in every mode: see `is_chainable`.
    """

    factors: Sequence[nn.Linear]  # an nn.ModuleList of Linears or convolutions
    mode: Mode
    order: Order
    layer_class: type[nn.Module]
    _held: dict[object, Product] | None = None  # inside `hold`: by what the product depends on
    _running: dict[int, Product] | None = None  # by thread, while a subclass's forward runs

    @property
    def weight(self) -> Tensor:
        """The compact weight, as the layer had it. What is written to it is lost."""
        return self._current()[0]

    @property
    def bias(self) -> Tensor | None:
        """The compact bias [out], or None. What is written to it is lost."""
        return None if self.factors[-1].bias is None else self._current()[1]

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        if name in ("weight", "bias"):
            raise AttributeError(
                f"cannot set the {name} of an expanded layer, which is computed from its factors: "
                "set theirs, or set it before expanding or after compressing"
            )
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """Pickle by the layer's class: the unit's own class exists in this process alone."""
        state = {name: v for name, v in self.__dict__.items() if name not in ("_held", "_running")}
        return _empty_unit, (self.layer_class,), state

    def fold(self, dtype: torch.dtype) -> Product:
        """Multiply the factors in `dtype`, differentiably: the layer's weight, and its bias."""
        self.check_factors()
        weights, biases, groups = self._chain(dtype)
        return fold(weights, biases, groups=groups, order=self.order)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Run the layer in the unit's mode."""
        if not is_chainable(self.layer_class):
            return self._run_subclass(*inputs, **named)
        (input,) = inputs or named.values()
        if self.mode != "folded":
            return self._run_chain(input)
        weight, bias = self._product()
        if isinstance(self, CONVOLUTIONS):
            return cast("nn.Conv2d", self)._conv_forward(input, weight, bias)
        return F.linear(input, weight, bias)

    def _run_subclass(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Run the layer's own forward, which finds one product however often it reads it."""
        if torch.compiler.is_compiling():  # which finds that for itself
            return super().forward(*inputs, **named)
        running = self.__dict__.setdefault("_running", {})  # one for all threads
        running[get_ident()] = self._product()
        try:
            return super().forward(*inputs, **named)
        finally:
            del running[get_ident()]

    def _current(self) -> Product:
        """The product of the forward that runs, else a new one."""
        if self._running and not torch.compiler.is_compiling() and not _recomputes():
            return self._running.get(get_ident()) or self._product()
        return self._product()

    def _product(self) -> Product:
        """The product in float32 at least, whatever autocast says, in the factors' own type.

        Inside `hold` it is made once. A product is never kept beyond: what changes a factor
        (a fused optimizer, `.data`, a collective) need not leave a trace on it.
        """
        held = self._held
        if held is None or torch.compiler.is_compiling() or _recomputes():
            return self._fold_now()
        key = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        if key not in held:
            held[key] = self._fold_now()
        return held[key]

    def _fold_now(self) -> Product:
        self.check_factors()
        own = self.factors[0].weight.dtype
        wide = (
            own
            if own in (torch.float32, torch.float64)
            else torch.promote_types(own, torch.float32)
        )
        weights, biases, groups = self._chain(wide)
        way = fold if _sees_through() else fold_once
        weight, bias = way(weights, biases, groups=groups, order=self.order)
        return weight.to(own), None if bias is None else bias.to(own)

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

    def check_factors(self) -> None:
        """Raise TypeError if something, such as quantisation, has replaced a factor."""
        for index, factor in enumerate(self.factors):
            made_by = type(factor).__module__
            if not isinstance(factor, FACTORS) or made_by.startswith("torch.ao."):
                raise TypeError(
                    f"factor {index} of an expanded {self.layer_class.__name__} was replaced by a "
                    f"{made_by}.{type(factor).__name__}: change (quantise, adapt) the compact "
                    "network, expand.compress(network), not the expanded one"
                )

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
        """Draw every factor again, as torch initialises a layer of its shape."""
        for factor in self.factors:
            factor.reset_parameters()

    def extra_repr(self) -> str:
        """Say what the layer is, without its factors, and how it runs."""
        try:
            layer = super().extra_repr()
        except TypeError:  # of `check_factors`
            layer = "replaced factors"
        return f"{layer}, mode={self.mode}"


def is_chainable(cls: type[nn.Module]) -> bool:
    """Whether a chain can stand for a layer of this class: its forward is torch's own."""
    convolve = getattr(cls, "_conv_forward", None)  # which the forwards of convolutions call
    return cls.forward in _OWN_FORWARDS and convolve in (None, *_OWN_CONVOLVES)


def pads_in_convolution(conv: nn.Module) -> bool:
    """Whether the padding is zeros and numbers: then the first factor's convolution does it."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


@cache
def unit_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The class of units for layers of class `cls`; of its module, so that torch.fx takes it so."""
    own = {"__module__": cls.__module__, "layer_class": cls}
    return type(f"Expanded{cls.__name__}", (ExpandedUnit, cls), own)


def _empty_unit(cls: type[nn.Module]) -> nn.Module:
    """A unit for a layer of class `cls` whose attributes are still to come, for unpickling."""
    unit = unit_class(cls)
    return unit.__new__(unit)


def _recomputes() -> bool:
    """Whether activations are checkpointed: first and second time must do the very same."""
    graph = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]
    return graph._top_saved_tensors_default_hooks(True) is not None


def _sees_through() -> bool:
    """Whether torch.compile, torch.func or forward-mode differentiation look at operations."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return forward_ad._current_level >= 0
