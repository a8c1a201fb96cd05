"""The quantised layer: the layer itself with another class, whose forward rounds first.

It reads `weight` as anybody does. So an expanded layer, whose `weight` is the product of its
factors, is quantised as the compact layer that it will be.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, SupportsIndex, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from quantize.fake import fake_input, fake_weight

__all__ = ["LINEAR", "QuantisedLayer", "layers", "linear_layers", "restore_layer", "wrap_layer"]

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LINEAR = (*CONVOLUTIONS, nn.Linear)
RANGE = "input_range"
SHARE = 0.01  # of a batch in the moving average of the ranges, as of torch's observers

_OWN_FORWARDS = {cls.forward for cls in LINEAR}
_OWN_CONVOLVES = {cls._conv_forward for cls in (nn.Conv1d, nn.Conv2d, nn.Conv3d)}


class QuantisedLayer(nn.Module):
    """Mixed in before the class of a layer; made by `wrap_layer` alone.

    `input_range`, float32 [2], holds the ends of the input's range, zero between them: those of
    the first batch, then a moving average over the batches in train mode. It is a buffer. A layer
    that has seen no batch runs in float, and so does every layer that is not `quantising`.
    """

    input_range: Tensor
    quantising: bool
    float_class: type[nn.Module]

    def forward(self, input: Tensor) -> Tensor:
        """Run the layer, on its rounded input and weight if it is `quantising`."""
        if not self.quantising:
            return super().forward(input)
        if getattr(self, "mode", None) == "nonlinear":
            raise ValueError(
                "a layer that is expanded nonlinearly cannot be rounded to int8: let this stage's "
                "quantisation wait, quantize.QAT(start='float') and a later stage `phase: int8`"
            )
        weight, bias = cast("Tensor", self.weight), cast("Tensor | None", self.bias)
        if self.training:
            self._observe(input)
        rounded, grid = fake_input(input, self.input_range), fake_weight(weight)
        if not self.training:  # without a branch, which would wait for the device
            seen = self.input_range[0] < self.input_range[1]
            rounded, grid = torch.where(seen, rounded, input), torch.where(seen, grid, weight)
        if isinstance(self, CONVOLUTIONS):
            return cast("nn.Conv2d", self)._conv_forward(rounded, grid, bias)
        return F.linear(rounded, grid, bias)

    @torch.no_grad()
    def _observe(self, input: Tensor) -> None:
        """Take a batch into the range, unless it has NaN or Inf, as of a step that is skipped."""
        low, high = input.detach().float().aminmax()
        batch = torch.stack([low.clamp(max=0), high.clamp(min=0)])
        known = self.input_range
        moved = torch.where(known[0] < known[1], torch.lerp(known, batch, SHARE), batch)
        known.copy_(torch.where(batch.isfinite().all(), moved, known))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """Pickle by the layer's class: this one exists in this process alone."""
        make, args, *rest = cast("tuple[Any, ...]", super().__reduce_ex__(protocol))
        args = tuple(self.float_class if each is type(self) else each for each in args)
        return _remake, (make, args), *rest


def layers(network: nn.Module) -> Iterator[tuple[str, QuantisedLayer]]:
    """Yield the path and the layer of every quantised layer in a network."""
    for path, module in network.named_modules():
        if isinstance(module, QuantisedLayer):
            yield path, module


def linear_layers(network: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module, str]]:
    """Yield path, layer and "" of each layer that can be quantised; else the reason why not.

    What is inside of such a layer, as the factors of an expanded one, is part of it.
    """
    if isinstance(network, LINEAR):
        yield path, network, _unfit(network)
    elif isinstance(network, nn.MultiheadAttention):
        yield path, network, "its forward reads weights and calls no layers"
    else:
        for name, child in network.named_children():
            yield from linear_layers(child, f"{path}.{name}" if path else name)


def _unfit(layer: nn.Module) -> str:
    if isinstance(layer, QuantisedLayer):
        return "already quantised"
    if isinstance(layer, LazyModuleMixin):
        return f"{type(layer).__name__} is not supported"
    if not getattr(getattr(layer, "factors", None), "linear", True):
        return "its branches have norms, which train on batches"
    cls = cast("type[nn.Module]", getattr(layer, "layer_class", type(layer)))  # of expanded layers
    convolve = getattr(cls, "_conv_forward", None)
    if cls.forward in _OWN_FORWARDS and convolve in (None, *_OWN_CONVOLVES):
        return ""
    return f"{cls.__name__} has a forward of its own"


def wrap_layer(layer: nn.Module, *, quantising: bool) -> None:
    """Turn a layer into a quantised one, in place."""
    layer.__class__ = _class_of(type(layer))
    device = next(layer.parameters()).device
    layer.register_buffer(RANGE, torch.zeros(2, device=device))
    layer.register_forward_pre_hook(_as_called)
    cast("QuantisedLayer", layer).quantising = quantising


def restore_layer(layer: QuantisedLayer) -> None:
    """Turn a quantised layer back into the layer it was, in place."""
    cast("nn.Module", layer).__class__ = layer.float_class
    delattr(layer, RANGE)
    del layer.quantising
    for key, hook in [*layer._forward_pre_hooks.items()]:
        if hook is _as_called:
            del layer._forward_pre_hooks[key]


def _as_called(layer: nn.Module, inputs: object) -> None:
    """Do nothing: where a layer has a hook, `nn.TransformerEncoderLayer` calls it in eval mode.

    Its fast path would compute with the float weights.
    """


@cache
def _class_of(cls: type[nn.Module]) -> type[nn.Module]:
    """Return the class of quantised layers of a class."""
    own = {"__module__": cls.__module__, "float_class": cls}
    return type(f"Quantised{cls.__name__}", (QuantisedLayer, cls), own)


def _remake(make: Callable[..., nn.Module], args: tuple[object, ...]) -> nn.Module:
    layer = make(*args)
    layer.__class__ = _class_of(type(layer))
    return layer
