"""The linear layers of a network: which there are, their geometry, and what rules one out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from expand.chains import Geometry
from expand.network import units
from expand.running import CONVOLUTIONS
from expand.units import OWN_NAMES, ExpandedUnit

__all__ = ["Site", "count", "geometry", "linear_layers", "shared_weights", "unfit"]

_TRANSPOSED = (nn.modules.conv._ConvTransposeNd, nn.Bilinear)
_OPAQUE = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True)
class Site:
    """A linear layer, the paths by which the network knows it, and whether it is an end.

    The stem is the first convolution, the classifier the last fully-connected layer.
    """

    paths: tuple[str, ...]
    layer: nn.Module
    is_stem: bool = False
    is_classifier: bool = False

    @property
    def path(self) -> str:
        """The path that comes first."""
        return self.paths[0]


def linear_layers(model: nn.Module) -> list[Site]:
    """The linear layers in the network's order; the factors of a unit are part of the unit.

    But not the convolutions in its branches, where it has such.
    """
    folded = [u.factors for _, u in units(model) if u.factors.linear]
    factors = {id(m) for each in folded for m in each.modules()}
    paths: dict[int, list[str]] = {}
    layers: dict[int, nn.Module] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if id(module) not in factors and _is_linear(module):
            paths.setdefault(id(module), []).append(path)
            layers[id(module)] = module
    stem = next((key for key, m in layers.items() if isinstance(m, CONVOLUTIONS)), None)
    last = next((key for key, m in reversed(layers.items()) if isinstance(m, nn.Linear)), None)
    if model in layers.values():  # a lone layer is no end of a network
        stem = last = None
    return [
        Site(tuple(paths[key]), layer, key == stem, key == last) for key, layer in layers.items()
    ]


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Count numbers; a lazy layer's parameters have none yet."""
    return sum(0 if is_lazy(p) else p.numel() for p in parameters)


def geometry(layer: nn.Module) -> Geometry:
    """Channels, kernel, groups and bias of a convolution or a fully-connected layer."""
    if isinstance(layer, CONVOLUTIONS):
        conv = cast("nn.Conv2d", layer)
        kernel = tuple(conv.kernel_size)
        has_bias = conv.bias is not None
        return Geometry(conv.in_channels, conv.out_channels, kernel, conv.groups, has_bias)
    if isinstance(layer, nn.Linear):
        return Geometry(layer.in_features, layer.out_features, bias=layer.bias is not None)
    return Geometry(0, 0)


def unfit(layer: nn.Module, shared: set[int]) -> str:
    """Say why a layer cannot become a unit at all; empty where it can."""
    if isinstance(layer, ExpandedUnit):
        return "already expanded"
    if _is_quantised(layer):
        return "it is quantised"
    if isinstance(layer, (*_TRANSPOSED, LazyModuleMixin)):
        return f"{type(layer).__name__} is not supported"
    if isinstance(layer, _OPAQUE):
        return f"the projections of {type(layer).__name__} are not layers of their own"
    if parametrize.is_parametrized(layer):
        return "its weight is parametrised"
    names = [name for name, value in layer._parameters.items() if value is not None]
    if "weight" not in names or (layer.bias is not None and "bias" not in names):
        return "its weight or bias is not a parameter of its own"
    if any(_identity(p) in shared for p in layer.parameters(recurse=False)):
        return "its weight is shared with another layer"
    if not cast("nn.Parameter", layer.weight).requires_grad:
        return "its weight is frozen"
    if taken := [name for name in OWN_NAMES if name in dir(layer)]:
        return f"it has a {taken[0]!r} of its own, which an expanded layer needs"
    return _unusual(layer)


def shared_weights(model: nn.Module) -> set[int]:
    """The parameters that stand in more than one module."""
    seen: set[int] = set()
    shared: set[int] = set()
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                key = _identity(parameter)
                (shared if key in seen else seen).add(key)
    return shared


def _identity(parameter: nn.Parameter) -> int:
    """The place of the numbers, where they have one: two parameters may be views of it."""
    plain = type(parameter.data) is torch.Tensor and not is_lazy(parameter)
    return (plain and parameter.data_ptr()) or id(parameter)


def _is_linear(module: nn.Module) -> bool:
    kinds: Sequence[type] = (*CONVOLUTIONS, nn.Linear, *_TRANSPOSED, *_OPAQUE)
    return isinstance(module, tuple(kinds)) or _is_quantised(module)


def _is_quantised(module: nn.Module) -> bool:
    """Whether this is a layer of torch.ao, whose packed weights are no parameters."""
    own = type(module)
    packages = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
    is_layer = own.__name__.startswith(("Conv", "Linear")) and "Packed" not in own.__name__
    return own.__module__.startswith(packages) and is_layer


def _unusual(layer: nn.Module) -> str:
    """Say what is odd about a layer's weight: its type, or a shape that the layer denies."""
    weight, shape = cast("nn.Parameter", layer.weight), geometry(layer)
    if type(weight.data) is not torch.Tensor:
        return f"its weight is a {type(weight.data).__name__}"
    if not weight.is_floating_point():
        return f"its weight is of {weight.dtype}"
    expected = (shape.outputs, shape.inputs // shape.groups, *shape.kernel)
    if tuple(weight.shape) != expected:
        return f"its weight is {list(weight.shape)}, not {list(expected)} as the layer says"
    return ""
