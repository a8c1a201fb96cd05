"""Turn a layer into a unit, and units back into layers."""

from collections.abc import Callable, Collection, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from expand.algebra import identity_weight, taps, weight
from expand.chains import Geometry
from expand.copying import copied
from expand.factors import Chain, Factors, own_bias
from expand.initialise import Init, initialise
from expand.network import units
from expand.running import CONVOLUTIONS, pads_in_convolution
from expand.units import OWN_NAMES, ExpandedUnit, unit_class

__all__ = ["become_unit", "compress", "make_chain"]


def make_chain(
    layer: nn.Module, factors: Sequence[Geometry], *, stride_at: int, init: Init, identity: bool
) -> Chain:
    """Return the chain of a layer. `stride_at`: the factor that carries the stride.

    With `identity` the chain's product is one thing, the other is the layer that returns its input.
    Raises ValueError where `init` is preserve and the factors are too narrow.
    """
    weight, bias = cast("Tensor", layer.weight), cast("Tensor | None", layer.bias)
    modules = [
        _factor_module(layer, factor, index, stride_at) for index, factor in enumerate(factors)
    ]
    start = weight
    if identity and init == "preserve" and not weight.is_meta:
        start = weight.detach() - identity_weight(weight)
    initialise(modules, start, bias, groups=getattr(layer, "groups", 1), init=init)
    for module in modules:
        module.weight.data = _channels_last(module.weight.data)
    if bias is not None and not bias.requires_grad:  # frozen: it stays what it is
        for module in modules[:-1]:
            module.register_parameter("bias", None)
        modules[-1].register_parameter("bias", own_bias(layer))
    return Chain(modules, identity=identity)


def become_unit(layer: nn.Module, factors: Factors) -> ExpandedUnit:
    """Turn `layer` into a folded unit that is computed from `factors`, in place."""
    # The names stay, empty: the order of the state dict is the layer's again after compression.
    layer._parameters.update(weight=None, bias=None)
    layer.__class__ = unit_class(type(layer))
    unit = cast("ExpandedUnit", layer)
    unit.factors, unit.mode = factors, "folded"
    return unit


def compress(module: nn.Module, paths: Collection[str] | None = None) -> nn.Module:
    """Return the compact network: the original classes and state-dict keys, the same function.

    The factors are multiplied in float64. `module` is not changed; with `paths`, units elsewhere
    stay expanded. Raises ValueError if nothing is expanded, and for units in nonlinear mode, which
    have no compact equivalent.
    """
    compact = copied(module)
    expanded = [*units(compact, paths)]
    if not expanded:
        raise ValueError(f"{type(module).__name__} has no expanded layer to compress")
    for _, unit in expanded:
        _compress_unit(unit)
    return compact


def _compress_unit(unit: ExpandedUnit) -> None:
    """Turn `unit` back into the layer it was, in place; it is computed in float64."""
    if unit.mode == "nonlinear" and unit.is_chain:
        raise ValueError(
            "cannot compress a unit in nonlinear mode, which has no compact equivalent: train in "
            "linear mode first (a last stage with `phase: linear`, or set_mode(model, 'folded'))"
        )
    unit.mode = "folded"  # without its hook
    unit.check_factors()
    named = dict(unit.factors.named_parameters())
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


def _factor_module(layer: nn.Module, factor: Geometry, index: int, stride_at: int) -> nn.Linear:
    """The chain as the paper draws it: padding on the first factor, stride on one."""
    conv = cast("nn.Conv2d", layer)
    like = {"bias": factor.bias, "device": conv.weight.device, "dtype": conv.weight.dtype}
    if not factor.kernel:
        return nn.Linear(factor.inputs, factor.outputs, **like)
    factory = cast("Callable[..., nn.Linear]", CONVOLUTIONS[len(factor.kernel) - 1])
    return factory(
        factor.inputs,
        factor.outputs,
        factor.kernel,
        stride=conv.stride if index == stride_at else 1,
        padding=conv.padding if index == 0 and pads_in_convolution(conv) else 0,
        dilation=conv.dilation,
        groups=factor.groups,
        **like,
    )


def _channels_last(values: Tensor) -> Tensor:
    """The same weight with its input channels innermost: folding needs no copy then.

    For LBFGS, FSDP and others that want plain contiguous weights, they may be made so again.
    """
    return weight(taps(values).contiguous())
