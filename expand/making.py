"""Turn a layer into a unit and back, in place."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from expand.algebra import cheapest_order, taps, weight
from expand.chains import Factor
from expand.initialise import Init, initialise
from expand.units import (
    CONVOLUTIONS,
    OWN_NAMES,
    ExpandedUnit,
    Mode,
    is_chainable,
    pads_in_convolution,
    unit_class,
)

__all__ = ["compress_unit", "expand_layer"]


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
    layer.__class__ = unit_class(type(layer))
    unit = cast("ExpandedUnit", layer)
    unit.factors = cast("Sequence[nn.Linear]", modules)
    unit.mode = mode
    shapes = [(f.outputs, f.inputs // groups, f.kernel) for f in factors]
    _, unit.order = cheapest_order(shapes)


def compress_unit(unit: ExpandedUnit) -> None:
    """Turn `unit` back into the layer it was, in place; the product is taken in float64."""
    if unit.mode == "nonlinear" and is_chainable(unit.layer_class):
        raise ValueError(
            "cannot compress a unit in nonlinear mode, which has no compact equivalent: train in "
            "linear mode first (a last stage with `phase: linear`, or set_mode(model, 'folded'))"
        )
    unit.check_factors()
    last = cast("nn.Linear", unit.factors[-1])
    device, dtype = last.weight.device, last.weight.dtype
    trained = [p is not None and p.requires_grad for p in (last.weight, last.bias)]
    if device.type != "meta":
        unit.to("cpu")  # not every device has float64
    with torch.no_grad():
        folded = unit.fold(torch.float64)
    del unit.factors
    for name in OWN_NAMES:
        unit.__dict__.pop(name, None)
    cast("nn.Module", unit).__class__ = unit.layer_class
    for name, value, train in zip(("weight", "bias"), folded, trained, strict=True):
        if value is not None:
            value = value.to(dtype).contiguous()
            unit._parameters[name] = nn.Parameter(value, requires_grad=train)
    unit.to(device)


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
        padding=conv.padding if index == 0 and pads_in_convolution(conv) else 0,
        dilation=conv.dilation,
        groups=factor.groups,
        bias=factor.bias,
        device=device,
        dtype=dtype,
    )


def _channels_last(values: Tensor) -> Tensor:
    """The same weight with its input channels innermost: folding needs no copy then.

    For LBFGS, FSDP and others that want plain contiguous weights, they may be made so again.
    """
    return weight(taps(values).contiguous())
