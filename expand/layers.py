"""The linear layers of a network: which there are, their geometry, and what rules one out."""

from collections.abc import Iterable, Mapping
from typing import cast

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from expand.chains import Geometry
from expand.units import CONVOLUTIONS, ExpandedUnit, units

__all__ = ["count", "ends", "geometry", "linear_layers", "shared_weights", "unfit"]

_NOT_EXPANDED = (nn.modules.conv._ConvTransposeNd, nn.Bilinear, LazyModuleMixin)


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers by path; the factors of a unit are part of the unit."""
    kinds: tuple[type, ...] = (*CONVOLUTIONS, nn.Linear, *_NOT_EXPANDED)
    factors = {id(factor) for _, unit in units(model) for factor in unit.factors}
    return {
        path: cast("nn.Module", module)
        for path, module in model.named_modules()
        if isinstance(module, kinds) and id(module) not in factors
    }


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Count numbers; a lazy layer's parameters have none yet."""
    return sum(0 if is_lazy(p) else p.numel() for p in parameters)


def geometry(layer: nn.Module) -> Geometry:
    """Channels, kernel and groups of a convolution or a fully-connected layer."""
    if isinstance(layer, CONVOLUTIONS):
        conv = cast("nn.Conv2d", layer)
        return Geometry(conv.in_channels, conv.out_channels, tuple(conv.kernel_size), conv.groups)
    if isinstance(layer, nn.Linear):
        return Geometry(layer.in_features, layer.out_features)
    return Geometry(0, 0)


def unfit(layer: nn.Module, shared: set[int]) -> str:
    """Say why a layer cannot become a unit at all; empty where it can."""
    if isinstance(layer, ExpandedUnit):
        return "already expanded"
    if isinstance(layer, _NOT_EXPANDED):
        return f"{type(layer).__name__} is not supported"
    if parametrize.is_parametrized(layer):
        return "its weight is parametrised"
    names = [name for name, value in layer._parameters.items() if value is not None]
    if "weight" not in names or (layer.bias is not None and "bias" not in names):
        return "its weight or bias is not a parameter of its own"
    if any(id(p) in shared for p in layer.parameters(recurse=False)):
        return "its weight is shared with another layer"
    return ""


def shared_weights(model: nn.Module) -> set[int]:
    """The parameters that stand in more than one module."""
    seen: set[int] = set()
    shared: set[int] = set()
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                (shared if id(parameter) in seen else seen).add(id(parameter))
    return shared


def ends(layers: Mapping[str, nn.Module]) -> tuple[str | None, str | None]:
    """The paths of the first convolution and of the last fully-connected layer."""
    convolutions = [path for path, layer in layers.items() if isinstance(layer, CONVOLUTIONS)]
    linears = [path for path, layer in layers.items() if isinstance(layer, nn.Linear)]
    return next(iter(convolutions), None), next(reversed(linears), None)
