"""Turn a layer into a unit and back, in place."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from expand.algebra import cheapest_order, identity_weight, taps, weight
from expand.chains import Factor
from expand.initialise import Init, initialise
from expand.running import CONVOLUTIONS, pads_in_convolution
from expand.units import OWN_NAMES, ExpandedUnit, Mode, unit_class

__all__ = ["become_unit", "compress_unit", "expand_layer"]


def expand_layer(
    layer: nn.Module,
    factors: Sequence[Factor],
    *,
    stride_at: int,
    mode: Mode,
    init: Init = "default",
    identity: bool = False,
) -> None:
    """Turn `layer` into a unit, in place. `stride_at`: the factor that carries the stride.

    With `identity` the chain's product is one thing, the other is the layer that returns its input.
    Raises ValueError where `init` is preserve and the factors are too narrow; the layer is left
    as it was then.
    """
    weight, bias = cast("Tensor", layer.weight), cast("Tensor | None", layer.bias)
    modules = nn.ModuleList(
        _factor_module(layer, factor, index, stride_at) for index, factor in enumerate(factors)
    )
    modules.train(layer.training)
    groups = getattr(layer, "groups", 1)
    start = weight
    if identity and init == "preserve" and not weight.is_meta:
        start = weight.detach() - identity_weight(weight)
    initialise(cast("Sequence[nn.Linear]", modules), start, bias, groups=groups, init=init)
    for module in cast("Sequence[nn.Linear]", modules):
        module.weight.data = _channels_last(module.weight.data)
        module.weight.requires_grad_(weight.requires_grad)
        if bias is not None and module.bias is not None:
            module.bias.requires_grad_(bias.requires_grad)
    unit = become_unit(layer, modules)
    unit.mode, unit.identity = mode, identity
    shapes = [(f.outputs, f.inputs // groups, f.kernel) for f in factors]
    _, unit.order = cheapest_order(shapes)


def become_unit(layer: nn.Module, factors: nn.Module) -> ExpandedUnit:
    """Turn `layer` into a folded unit that is computed from `factors`, in place."""
    # The names stay, empty: the order of the state dict is the layer's again after compression.
    layer._parameters.update(weight=None, bias=None)
    layer.__class__ = unit_class(type(layer))
    unit = cast("ExpandedUnit", layer)
    unit.factors, unit.mode = cast("Sequence[nn.Linear]", factors), "folded"
    return unit


def compress_unit(unit: ExpandedUnit) -> None:
    """Turn `unit` back into the layer it was, in place; it is computed in float64."""
    if unit.mode == "nonlinear" and unit.is_chain:
        raise ValueError(
            "cannot compress a unit in nonlinear mode, which has no compact equivalent: train in "
            "linear mode first (a last stage with `phase: linear`, or set_mode(model, 'folded'))"
        )
    unit.check_factors()
    named = dict(cast("nn.Module", unit.factors).named_parameters())
    device, dtype = next((p.device, p.dtype) for p in named.values())
    trained = [
        any(p.requires_grad for name, p in named.items() if name.endswith(end) == bias)
        for end, bias in (("bias", False), ("bias", True))
    ]
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
