"""The expanded layer: a unit owns the factors, and the layer's own forward runs on their product.

A unit is the layer itself with another class: `ExpandedConv2d` is a `Conv2d` whose `weight` and
`bias` are computed from `factors`. So stride, padding mode, dilation, groups, hooks, and the
forward of any subclass keep their meaning, and every parent that reads `.weight` finds it.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from threading import get_ident
from typing import ClassVar, Literal, SupportsIndex, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from expand.algebra import Order, identity_weight, regroup
from expand.folding import float32, fold, fold_once
from expand.running import CONVOLUTIONS, FACTORS, Product, is_chainable, run_chain

__all__ = ["MODES", "OWN_NAMES", "ExpandedUnit", "Factors", "Mode", "unit_class"]

Mode = Literal["folded", "unfolded", "nonlinear"]
MODES: tuple[Mode, ...] = ("folded", "unfolded", "nonlinear")

OWN_NAMES = ("factors", "fold", "identity", "layer_class", "mode", "order", "_held", "_running")
"""The attributes of a unit, which a layer that is to become one must not have."""


class Factors(nn.Module):
    """Parameters that a layer's weight is computed from, with its bias; abstract.

    Those that are not `linear` are that weight in eval mode only: they run by their `forward`.
    """

    linear: ClassVar[bool] = True
    bias: nn.Parameter | None

    @abstractmethod
    def fold(self, dtype: torch.dtype) -> Product:
        """Compute the layer's weight and bias in `dtype`, differentiably."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw the parameters again."""


class ExpandedUnit(nn.Module):
    """Mixed in before the class of the layer that is expanded; made by `making` alone.

    `factors` are a chain, or `Factors`, whose unit is the same in every mode.
    `identity`: the layer's input is added to what a chain makes of it. `mode` says how it runs:
    - folded: the factors are multiplied into the compact weight and bias, inside the graph, and
      the layer's own forward runs with them;
    - unfolded: the chain runs factor by factor, padding on the first, stride on one of them;
    - nonlinear: the same with a ReLU between the factors: the nonlinear counterpart that
      initialises an ExpandNet (ExpandNets paper, 2.1).
    A layer whose class has a forward of its own is folded in every mode: see `is_chainable`.
    """

    factors: Factors | Sequence[nn.Linear]  # that is an nn.ModuleList of layers
    identity: bool = False
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
        last = self.factors if isinstance(self.factors, Factors) else self.factors[-1]
        return None if last.bias is None else self._current()[1]

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
        return self._multiply(dtype, once=False)

    @property
    def is_chain(self) -> bool:
        """Whether the factors can run one by one."""
        own = isinstance(self.factors, nn.ModuleList)
        return own and is_chainable(self.layer_class)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Run the layer in the unit's mode."""
        if not is_chainable(self.layer_class):
            return self._run_subclass(*inputs, **named)
        (input,) = inputs or named.values()
        if isinstance(self.factors, Factors) and not self.factors.linear:
            return self.factors(input)
        if self.mode != "folded" and self.is_chain:
            how = {"nonlinear": self.mode == "nonlinear", "identity": self.identity}
            return run_chain(self, cast("nn.ModuleList", self.factors), input, **how)
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
        own = next(cast("nn.Module", self.factors).parameters()).dtype
        wide = (
            own
            if own in (torch.float32, torch.float64)
            else torch.promote_types(own, torch.float32)
        )
        weight, bias = self._multiply(wide, once=not _sees_through())
        return weight.to(own), None if bias is None else bias.to(own)

    def _multiply(self, dtype: torch.dtype, *, once: bool) -> Product:
        """Compute the product in `dtype`; `once`: that of a chain as one node of the graph."""
        self.check_factors()
        if isinstance(self.factors, Factors):
            with float32(next(self.factors.parameters())):
                return self.factors.fold(dtype)
        groups = getattr(self, "groups", 1)
        weights: list[Tensor] = []
        biases: list[Tensor | None] = []
        for factor in self.factors:
            weights.append(regroup(factor.weight.to(dtype), getattr(factor, "groups", 1), groups))
            biases.append(None if factor.bias is None else factor.bias.to(dtype))
        way = fold_once if once else fold
        weight, bias = way(weights, biases, groups=groups, order=self.order)
        return weight + identity_weight(weight) if self.identity else weight, bias

    def check_factors(self) -> None:
        """Raise TypeError if something, such as quantisation, has replaced a factor of a chain."""
        chain = cast("nn.ModuleList", self.factors)
        for index, factor in enumerate([] if isinstance(chain, Factors) else chain):
            made_by = type(factor).__module__
            if not isinstance(factor, FACTORS) or made_by.startswith("torch.ao."):
                raise TypeError(
                    f"factor {index} of an expanded {self.layer_class.__name__} was replaced by a "
                    f"{made_by}.{type(factor).__name__}: change (quantise, adapt) the compact "
                    "network, expand.compress(network), not the expanded one"
                )

    def reset_parameters(self) -> None:
        """Draw every factor again, as torch initialises a layer of its shape."""
        chain = [self.factors] if isinstance(self.factors, Factors) else self.factors
        for factor in chain:
            factor.reset_parameters()

    def extra_repr(self) -> str:
        """Say what the layer is, without its factors, and how it runs."""
        try:
            layer = super().extra_repr()
        except TypeError:  # of `check_factors`
            layer = "replaced factors"
        return f"{layer}, mode={self.mode}"


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
