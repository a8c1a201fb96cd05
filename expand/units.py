"""The expanded layer: a unit owns the factors, and the layer's own forward runs on their product.

A unit is the layer itself with another class: `ExpandedConv2d` is a `Conv2d` whose `weight` and
`bias` are computed from `factors`. So stride, padding mode, dilation, groups, hooks, and the
forward of any subclass keep their meaning, and every parent that reads `.weight` finds it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from math import prod
from typing import Literal, SupportsIndex, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expand.algebra import Order, cheapest_order, fold_biases, fold_weights, regroup
from expand.chains import Factor
from expand.initialise import Init, initialise

__all__ = [
    "MODES",
    "ExpandedUnit",
    "Mode",
    "compress_unit",
    "expand_layer",
    "is_chainable",
    "set_mode",
    "units",
]

Mode = Literal["folded", "unfolded", "nonlinear"]
MODES: tuple[Mode, ...] = ("folded", "unfolded", "nonlinear")

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_OWN_FORWARDS = {cls.forward for cls in (*CONVOLUTIONS, nn.Linear)}


class ExpandedUnit(nn.Module):
    """Mixed in before the class of the layer that is expanded; made by `expand_layer` alone.

    `mode` says how the unit runs:
    - folded: the factors are multiplied into the compact weight and bias, inside the graph, and
      the layer's own forward runs with them;
    - unfolded: the chain runs factor by factor, padding on the first, stride on one of them;
    - nonlinear: the same with a ReLU between the factors: the nonlinear counterpart that
      initialises an ExpandNet (ExpandNets paper, 2.1).
    A layer whose class has a forward of its own is folded in every mode: see `chainable`.
    """

    factors: Sequence[nn.Linear]  # an nn.ModuleList of Linears or convolutions
    mode: Mode
    order: Order
    _folded: tuple[Tensor, Tensor | None] | None

    @property
    def weight(self) -> Tensor:
        """The compact weight, as the layer had it. What is written to it is lost."""
        return self._folded[0] if self._folded else self.fold_weight()

    @property
    def bias(self) -> Tensor | None:
        """The compact bias [out], or None. What is written to it is lost."""
        return self._folded[1] if self._folded else self.fold_bias()

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        if name in ("weight", "bias"):
            raise AttributeError(
                f"the {name} of an expanded layer is computed from its factors: set theirs, "
                "or set it before expanding or after compressing"
            )
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """Pickle by the layer's class: the unit's own class exists in this process alone."""
        return _empty_unit, (type(self).__mro__[2],), self.__dict__

    @property
    def chainable(self) -> bool:
        """Whether a chain can stand for the layer: its class has torch's own forward."""
        return is_chainable(type(self).__mro__[2])  # [unit, ExpandedUnit, layer, ...]

    def fold_weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """Multiply the factors, differentiably, in float32 at least, whatever autocast says.

        The result has the factors' type; with `dtype` the product is taken and returned in it.
        """
        weights, groups = self._weights(dtype)
        with _without_autocast(weights[0].device.type):
            return fold_weights(weights, groups, self.order).to(
                dtype or self.factors[0].weight.dtype
            )

    def fold_bias(self, dtype: torch.dtype | None = None) -> Tensor | None:
        """The factors' biases, carried to the end of the chain; `dtype` as in `fold_weight`."""
        if self.factors[-1].bias is None:  # where a factor has one, the last does
            return None
        weights, groups = self._weights(dtype)
        wide, own = weights[0].dtype, self.factors[0].weight.dtype
        biases = [None if f.bias is None else f.bias.to(wide) for f in self.factors]
        with _without_autocast(weights[0].device.type):
            return cast("Tensor", fold_biases(weights, biases, groups)).to(dtype or own)

    def _weights(self, dtype: torch.dtype | None) -> tuple[list[Tensor], int]:
        """The factors' weights in the type to multiply in, all with the layer's groups."""
        wide = dtype or torch.promote_types(self.factors[0].weight.dtype, torch.float32)
        groups = getattr(self, "groups", 1)
        own = [getattr(factor, "groups", 1) for factor in self.factors]
        weights = [factor.weight.to(wide) for factor in self.factors]
        return [regroup(w, g, groups) for w, g in zip(weights, own, strict=True)], groups

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Run the layer in the unit's mode."""
        if self.mode != "folded" and self.chainable:
            return self._run_chain(*inputs, **named)
        self._folded = self.fold_weight(), self.fold_bias()
        try:
            return super().forward(*inputs, **named)
        finally:
            self._folded = None

    def _run_chain(self, input: Tensor) -> Tensor:
        if isinstance(self, CONVOLUTIONS) and not _pads_in_convolution(self):
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


def expand_layer(
    layer: nn.Module,
    factors: Sequence[Factor],
    *,
    stride_at: int,
    mode: Mode,
    init: Init = "default",
) -> None:
    """Turn `layer` into a unit, in place. `stride_at`: the factor that carries the stride.

    Raises ValueError where `init` is preserve and the factors are too narrow; the layer is left
    as it was then.
    """
    weight, bias = cast("Tensor", layer.weight), cast("Tensor | None", layer.bias)
    modules = nn.ModuleList(
        _factor_module(layer, factor, index, stride_at) for index, factor in enumerate(factors)
    )
    modules.train(layer.training)
    groups = getattr(layer, "groups", 1)
    initialise(cast("Sequence[nn.Linear]", modules), weight, bias, groups=groups, init=init)
    for module in cast("Sequence[nn.Linear]", modules):
        module.weight.data = _channels_last(module.weight.data)
        module.weight.requires_grad_(weight.requires_grad)
        if bias is not None and module.bias is not None:
            module.bias.requires_grad_(bias.requires_grad)
    # The names stay, empty: the order of the state dict is the layer's again after compression.
    layer._parameters.update(weight=None, bias=None)
    layer.__class__ = _unit_class(type(layer))
    unit = cast("ExpandedUnit", layer)
    unit.factors = cast("Sequence[nn.Linear]", modules)
    unit.mode, unit._folded = mode, None
    shapes = [(f.outputs, f.inputs // groups, f.kernel) for f in factors]
    _, unit.order = cheapest_order(shapes)


def compress_unit(unit: ExpandedUnit) -> None:
    """Turn `unit` back into the layer it was, in place; the product is taken in float64."""
    if unit.mode == "nonlinear" and unit.chainable:
        raise ValueError(
            "a unit in nonlinear mode has no compact equivalent: go on in linear mode first "
            "(a last stage with `phase: linear`, or set_mode(model, 'folded'))"
        )
    last = cast("nn.Linear", unit.factors[-1])
    device, dtype = last.weight.device, last.weight.dtype
    trained = [p.requires_grad for p in (last.weight, last.bias) if p is not None]
    unit.to("cpu")  # not every device has float64
    with torch.no_grad():
        folded = [unit.fold_weight(torch.float64), unit.fold_bias(torch.float64)]
    for name in ("factors", "mode", "order", "_folded"):
        delattr(unit, name)
    unit.__class__ = type(unit).__mro__[2]
    for name, value, train in zip(("weight", "bias"), folded, trained, strict=False):
        if value is not None:
            value = value.to(dtype).contiguous()
            unit._parameters[name] = nn.Parameter(value, requires_grad=train)
    unit.to(device)


def is_chainable(cls: type[nn.Module]) -> bool:
    """Whether a chain can stand for a layer of this class: its forward is torch's own."""
    return cls.forward in _OWN_FORWARDS


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


def _empty_unit(cls: type[nn.Module]) -> nn.Module:
    """A unit for a layer of class `cls` whose attributes are still to come, for unpickling."""
    unit_class = _unit_class(cls)
    return unit_class.__new__(unit_class)


@cache
def _unit_class(cls: type[nn.Module]) -> type[nn.Module]:
    return type(f"Expanded{cls.__name__}", (ExpandedUnit, cls), {"__module__": __name__})


def _factor_module(layer: nn.Module, factor: Factor, index: int, stride_at: int) -> nn.Module:
    """The chain as the paper draws it: padding on the first factor, stride on one."""
    conv = cast("nn.Conv2d", layer)
    device, dtype = conv.weight.device, conv.weight.dtype
    if not factor.kernel:
        bias = factor.bias
        return nn.Linear(factor.inputs, factor.outputs, bias=bias, device=device, dtype=dtype)
    factory = cast("Callable[..., nn.Module]", CONVOLUTIONS[len(factor.kernel) - 1])
    return factory(
        factor.inputs,
        factor.outputs,
        factor.kernel,
        stride=conv.stride if index == stride_at else 1,
        padding=conv.padding if index == 0 and _pads_in_convolution(conv) else 0,
        dilation=conv.dilation,
        groups=factor.groups,
        bias=factor.bias,
        device=device,
        dtype=dtype,
    )


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Keep autocast out of a product; the meta device has none."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _pads_in_convolution(conv: nn.Module) -> bool:
    """Whether the padding is zeros and numbers: then the first factor's convolution does it."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _channels_last(weight: Tensor) -> Tensor:
    """The same weight with its input channels innermost: folding needs no copy then.

    A 1x1 weight is so as it is, with the strides that DistributedDataParallel expects.
    """
    if prod(weight.shape[2:]) == 1:
        return weight.contiguous()
    return weight.movedim(1, -1).contiguous().movedim(-1, 1)
