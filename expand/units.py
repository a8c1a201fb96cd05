"""The expanded layer: a unit owns the factors, and the layer's own forward runs on their product.

A unit is the layer itself with another class: `ExpandedConv2d` is a `Conv2d` whose `weight` and
`bias` are computed from `factors`. So stride, padding mode, dilation, groups, hooks, and the
forward of any subclass keep their meaning, and every parent that reads `.weight` finds it.
"""

from functools import cache
from threading import get_ident
from typing import Literal, SupportsIndex, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expand.factors import Chain, Factors
from expand.folding import float32
from expand.running import CONVOLUTIONS, FACTORS, Product, is_chainable, run_chain

__all__ = ["MODES", "OWN_NAMES", "ExpandedUnit", "Mode", "unit_class"]

Mode = Literal["folded", "unfolded", "nonlinear"]
MODES: tuple[Mode, ...] = ("folded", "unfolded", "nonlinear")

_PASSING = ("_held", "_leaves", "_running")
_SAID = ("check_factors", "is_chain", "is_folded", "is_trained")

OWN_NAMES = ("factors", "fold", "layer_class", "mode", *_PASSING, *_SAID)
"""The attributes of a unit, which a layer that is to become one must not have."""


class ExpandedUnit(nn.Module):
    """Mixed in before the class of the layer that is expanded; made by `making` alone.

    `mode` says how a chain of factors runs; others run in every mode alike:
    - folded: the factors are multiplied into the compact weight and bias, inside the graph, and
      the layer's own forward runs with them;
    - unfolded: the chain runs factor by factor, padding on the first, stride on one of them;
    - nonlinear: the same with a ReLU between the factors: the nonlinear counterpart that
      initialises an ExpandNet (ExpandNets paper, 2.1).
    A layer whose class has a forward of its own is folded in every mode: see `is_chainable`.
    """

    factors: Factors
    mode: Mode
    layer_class: type[nn.Module]
    _held: dict[object, Product] | None = None  # inside `hold`: by what the product depends on
    _leaves: Product | None = None  # inside `Leaves.held`
    _running: dict[int, Product] | None = None  # by thread, while a subclass's forward runs

    @property
    def weight(self) -> Tensor:
        """The compact weight, as the layer had it. What is written to it is lost."""
        return self._current()[0]

    @property
    def bias(self) -> Tensor | None:
        """The compact bias [out], or None. What is written to it is lost."""
        return self._current()[1] if self.factors.has_bias else None

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        if name in ("weight", "bias"):
            raise AttributeError(
                f"cannot set the {name} of an expanded layer, which is computed from its factors: "
                "set theirs, or set it before expanding or after compressing"
            )
        super().__setattr__(name, value)
        if name == "mode":
            hooks = self._forward_pre_hooks
            for key in [key for key, hook in hooks.items() if hook is _as_called]:
                del hooks[key]
            if self.mode == "nonlinear" and self.is_chain:
                self.register_forward_pre_hook(_as_called)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """Pickle by the layer's class: the unit's own class exists in this process alone."""
        state = {name: v for name, v in self.__dict__.items() if name not in _PASSING}
        return _empty_unit, (self.layer_class,), state

    def fold(self, dtype: torch.dtype) -> Product:
        """Multiply the factors in `dtype`, differentiably: the layer's weight, and its bias."""
        self.check_factors()
        with float32(next(self.factors.parameters())):
            return self.factors.fold(dtype)

    @property
    def is_chain(self) -> bool:
        """Whether the factors can run one by one."""
        return isinstance(self.factors, Chain) and is_chainable(self.layer_class)

    @property
    def is_folded(self) -> bool:
        """Whether the layer runs on the product of its factors."""
        return self.factors.linear and not (self.mode != "folded" and self.is_chain)

    @property
    def is_trained(self) -> bool:
        """Whether any of the factors is."""
        return any(each.requires_grad for each in self.factors.parameters())

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Run the layer in the unit's mode."""
        if not is_chainable(self.layer_class):
            return self._run_subclass(*inputs, **named)
        (input,) = inputs or named.values()
        if not self.factors.linear:
            return self.factors(input)
        if self.mode != "folded" and self.is_chain:
            chain, nonlinear = cast("Chain", self.factors), self.mode == "nonlinear"
            return run_chain(self, chain, input, nonlinear=nonlinear, identity=chain.identity)
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
        if self._leaves is not None:
            return self._leaves
        held = self._held
        if held is None or torch.compiler.is_compiling() or _recomputes():
            return self._fold_now()
        key = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        if key not in held:
            held[key] = self._fold_now()
        return held[key]

    def _fold_now(self) -> Product:
        self.check_factors()
        own = next(self.factors.parameters()).dtype
        weight, bias = self.fold(own if own.itemsize >= 4 else torch.float32)
        return weight.to(own), None if bias is None else bias.to(own)

    def check_factors(self) -> None:
        """Raise TypeError if something, such as quantisation, has replaced a factor of a chain."""
        for index, factor in enumerate(self.factors if isinstance(self.factors, Chain) else ()):
            made_by = type(factor).__module__
            if not isinstance(factor, FACTORS) or made_by.startswith("torch.ao."):
                raise TypeError(
                    f"factor {index} of an expanded {self.layer_class.__name__} was replaced by a "
                    f"{made_by}.{type(factor).__name__}: change (quantise, adapt) the compact "
                    "network, expand.compress(network), not the expanded one"
                )

    def reset_parameters(self) -> None:
        """Draw every factor again."""
        self.factors.reset_parameters()

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


def _as_called(layer: nn.Module, inputs: object) -> None:
    """Do nothing: where a layer has a hook, `nn.TransformerEncoderLayer` calls it in eval mode.

    Its fast path would read the product of the factors, which leaves out what is between them.
    """


def _recomputes() -> bool:
    """Whether activations are checkpointed: first and second time must do the very same."""
    graph = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]
    return graph._top_saved_tensors_default_hooks(True) is not None
