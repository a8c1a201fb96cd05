"""The expanded layer: a unit owns the factors, and the layer's own forward runs on their product.

A unit is the layer itself with another class: `ExpandedConv2d` is a `Conv2d` whose `weight` and
`bias` are computed from `factors`. So stride, padding mode, dilation, groups, hooks, and the
forward of any subclass keep their meaning, and every parent that reads `.weight` finds it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expand.algebra import fold_biases, fold_weights, regroup
from expand.chains import Factor

__all__ = ["MODES", "ExpandedUnit", "Mode", "compress_unit", "expand_layer", "set_mode", "units"]

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
    """

    factors: nn.ModuleList
    mode: Mode
    _folded: tuple[Tensor, Tensor | None] | None

    @property
    def weight(self) -> Tensor:
        """The compact weight, as the layer had it."""
        return (self._folded or self.fold())[0]

    @property
    def bias(self) -> Tensor | None:
        """The compact bias [out], or None."""
        return (self._folded or self.fold())[1]

    @property
    def chainable(self) -> bool:
        """Whether a chain can stand for the layer: its class has torch's own forward."""
        return type(self).__mro__[2].forward in _OWN_FORWARDS  # [unit, ExpandedUnit, layer, ...]

    def fold(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor | None]:
        """Multiply the factors: (weight, bias), differentiable.

        The product is taken in float32 at least, whatever autocast says, and returned in the
        factors' type; with `dtype` it is taken in `dtype` and returned so.
        """
        factors = cast("Sequence[nn.Conv2d]", self.factors)
        own = factors[0].weight.dtype
        wide = dtype or torch.promote_types(own, torch.float32)
        groups = getattr(self, "groups", 1)
        with torch.autocast(factors[0].weight.device.type, enabled=False):
            weights = [regroup(f.weight.to(wide), getattr(f, "groups", 1), groups) for f in factors]
            weight = fold_weights(weights, groups).to(dtype or own)
            if factors[0].bias is None:
                return weight, None
            biases = [cast("Tensor", f.bias).to(wide) for f in factors]
            return weight, fold_biases(weights, biases, groups).to(dtype or own)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Run the layer in the unit's mode."""
        if self.mode != "folded" and self.chainable:
            return self._run_chain(*inputs, **named)
        self._folded = self.fold()
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
            cast("nn.Linear", factor).reset_parameters()

    def extra_repr(self) -> str:
        """Say what the layer is, without its factors, and how it runs."""
        return f"{super().extra_repr()}, mode={self.mode}"


def expand_layer(
    layer: nn.Module, factors: Sequence[Factor], *, stride_at: int, mode: Mode
) -> None:
    """Turn `layer` into a unit, in place. `stride_at`: the factor that carries the stride."""
    weight, bias = cast("Tensor", layer.weight), cast("Tensor | None", layer.bias)
    modules = nn.ModuleList(
        _factor_module(layer, factor, index, stride_at) for index, factor in enumerate(factors)
    )
    modules.to(weight.device, weight.dtype).train(layer.training)
    for module in cast("Sequence[nn.Linear]", modules):
        module.weight.data = _channels_last(module.weight.data)
        module.weight.requires_grad_(weight.requires_grad)
        if bias is not None:
            module.bias.requires_grad_(bias.requires_grad)
    # The names stay, empty: the order of the state dict is the layer's again after compression.
    layer._parameters.update(weight=None, bias=None)
    layer.__class__ = _unit_class(type(layer))
    unit = cast("ExpandedUnit", layer)
    unit.factors, unit.mode, unit._folded = modules, mode, None


def compress_unit(unit: ExpandedUnit) -> None:
    """Turn `unit` back into the layer it was, in place; the product is taken in float64."""
    if unit.mode == "nonlinear" and unit.chainable:
        raise ValueError(
            "a unit in nonlinear mode has no compact equivalent: go on in linear mode first "
            "(a last stage with `phase: linear`, or set_mode(model, 'folded'))"
        )
    first = cast("nn.Linear", unit.factors[0])
    device, dtype = first.weight.device, first.weight.dtype
    trained = [p.requires_grad for p in (first.weight, first.bias) if p is not None]
    unit.to("cpu")  # not every device has float64
    with torch.no_grad():
        folded = [tensor for tensor in unit.fold(torch.float64) if tensor is not None]
    for name in ("factors", "mode", "_folded"):
        delattr(unit, name)
    unit.__class__ = type(unit).__mro__[2]
    for name, value, train in zip(("weight", "bias"), folded, trained, strict=False):
        value = value.to(dtype).contiguous()
        unit._parameters[name] = nn.Parameter(value, requires_grad=train)
    unit.to(device)


def units(model: nn.Module) -> Iterator[tuple[str, ExpandedUnit]]:
    """Yield the path and the unit of every expanded layer in `model`."""
    for path, module in model.named_modules():
        if isinstance(module, ExpandedUnit):
            yield path, module


def set_mode(model: nn.Module, mode: Mode) -> None:
    """Run every unit of `model` in `mode` from now on; ValueError where there is none."""
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r} is not one of {', '.join(MODES)}")
    found = [unit for _, unit in units(model)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no expanded layer to run as {mode!r}")
    for unit in found:
        unit.mode = mode


@cache
def _unit_class(cls: type[nn.Module]) -> type[nn.Module]:
    return type(f"Expanded{cls.__name__}", (ExpandedUnit, cls), {"__module__": __name__})


def _factor_module(layer: nn.Module, factor: Factor, index: int, stride_at: int) -> nn.Module:
    """The chain as the paper draws it: padding on the first factor, stride on one."""
    has_bias = layer.bias is not None
    if not factor.kernel:
        return nn.Linear(factor.inputs, factor.outputs, bias=has_bias)
    conv = cast("nn.Conv2d", layer)
    factory = cast("Callable[..., nn.Module]", CONVOLUTIONS[len(factor.kernel) - 1])
    return factory(
        factor.inputs,
        factor.outputs,
        factor.kernel,
        stride=conv.stride if index == stride_at else 1,
        padding=conv.padding if index == 0 and _pads_in_convolution(conv) else 0,
        dilation=conv.dilation,
        groups=factor.groups,
        bias=has_bias,
    )


def _pads_in_convolution(conv: nn.Module) -> bool:
    """Whether the padding is zeros and numbers: then the first factor's convolution does it."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _channels_last(weight: Tensor) -> Tensor:
    """The same weight with its input channels innermost: folding needs no copy then."""
    return weight.movedim(1, -1).contiguous().movedim(-1, 1)
