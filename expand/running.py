"""The chain of a unit, run factor by factor; and which layers it can stand for."""

from collections.abc import Iterable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from expand.algebra import identity_weight

__all__ = ["CONVOLUTIONS", "FACTORS", "Product", "is_chainable", "pads_in_convolution", "run_chain"]

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
FACTORS = (*CONVOLUTIONS, nn.Linear)
_OWN_FORWARDS = {cls.forward for cls in FACTORS}
_OWN_CONVOLVES = {cls._conv_forward for cls in (nn.Conv1d, nn.Conv2d, nn.Conv3d)}

Product = tuple[Tensor, Tensor | None]
"""The compact weight and bias of a unit."""


def run_chain(
    layer: nn.Module,
    factors: Iterable[nn.Module],
    input: Tensor,
    *,
    nonlinear: bool = False,
    identity: bool = False,
) -> Tensor:
    """Run a layer's chain factor by factor, with a ReLU between them if `nonlinear`.

    With `identity` the input is added, where the layer's kernel has its centre.
    """
    output = _padded(layer, input)
    for index, factor in enumerate(factors):
        if index and nonlinear:
            output = F.relu(output)
        output = factor(output)
    return output + _skip(layer, input) if identity else output


def _padded(layer: nn.Module, input: Tensor) -> Tensor:
    if not isinstance(layer, CONVOLUTIONS) or pads_in_convolution(layer):
        return input
    mode = cast("str", layer.padding_mode)
    amounts = cast("list[int]", layer._reversed_padding_repeated_twice)
    return F.pad(input, amounts, mode="constant" if mode == "zeros" else mode)


def _skip(layer: nn.Module, input: Tensor) -> Tensor:
    if not isinstance(layer, CONVOLUTIONS):
        return input
    conv = cast("nn.Conv2d", layer)
    shape = conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size
    return conv._conv_forward(input, identity_weight(input.new_empty(shape)), None)


def is_chainable(cls: type[nn.Module]) -> bool:
    """Whether a chain can stand for a layer of this class: its forward is torch's own."""
    convolve = getattr(cls, "_conv_forward", None)  # which the forwards of convolutions call
    return cls.forward in _OWN_FORWARDS and convolve in (None, *_OWN_CONVOLVES)


def pads_in_convolution(conv: nn.Module) -> bool:
    """Whether the padding is zeros and numbers: then the first factor's convolution does it."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
