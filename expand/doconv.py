"""DO-Conv (Cao et al., 2020): each input channel has a depthwise kernel of its own, in front.

W[o, i] = (D_i + identity) W'[o, i] (equation 5), with as many inner channels as the kernel has
taps. D starts at zero, so that the layer starts as it was.
O, I: output and input channels; g: groups; K: taps of the kernel; t: multiplier.
"""

from math import sqrt
from typing import Unpack, cast

import torch
from torch import Tensor, nn

from expand.chains import by
from expand.factors import Factors, own_bias
from expand.initialise import Init
from expand.planning import LayerPlan
from expand.rewriting import Branched, Choice, Folded
from expand.running import Product

__all__ = ["DOConv", "Values", "separable"]


class Values(nn.Module):
    """Numbers that a weight is computed from, named `weight`, so that they count as the layer's."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values)


def separable(depthwise: Tensor, pointwise: Tensor, groups: int) -> Tensor:
    """Return the weight [O, I / g, K] of depthwise [I, K, t] and pointwise [I, t, O / g] kernels.

    W[o, i, k] is the sum over t of depthwise[i, k, t] pointwise[i, t, o].
    """
    product = torch.bmm(depthwise, pointwise)  # [I, K, O / g]
    inputs, taps, outputs = product.shape
    product = product.reshape(groups, inputs // groups, taps, outputs)
    return product.permute(0, 3, 1, 2).reshape(groups * outputs, inputs // groups, taps)


class Overparameters(Factors):
    """`depthwise` [I, K, K], zero at first; `kernel` [I, K, O / g], at first the layer's weight."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.groups, self.kernel_size = conv.groups, conv.kernel_size
        width = conv.in_channels // conv.groups
        kernel = conv.weight.detach().reshape(
            conv.groups, conv.out_channels // conv.groups, width, -1
        )
        kernel = kernel.permute(0, 2, 3, 1).flatten(0, 1).contiguous()
        taps = kernel.shape[1]
        self.depthwise = Values(kernel.new_zeros(conv.in_channels, taps, taps))
        self.kernel = Values(kernel)
        self.bias = own_bias(conv)

    def fold(self, dtype: torch.dtype) -> Product:
        """Compute the layer's weight and bias in `dtype`, differentiably."""
        depthwise, kernel = self.depthwise.weight.to(dtype), self.kernel.weight.to(dtype)
        identity = torch.eye(kernel.shape[1], dtype=dtype, device=kernel.device)
        product = separable(depthwise + identity, kernel, self.groups)
        bias = None if self.bias is None else self.bias.to(dtype)
        return product.reshape(*product.shape[:2], *self.kernel_size), bias

    def reset_parameters(self) -> None:
        """Draw the kernel and bias as torch draws a layer's; D is zero."""
        inputs, taps, _ = self.kernel.weight.shape
        bound = 1 / sqrt(inputs // self.groups * taps)
        nn.init.zeros_(self.depthwise.weight)
        for values in (self.kernel.weight, self.bias):
            if values is not None:
                nn.init.uniform_(values, -bound, bound)


class DOConv(Branched, Folded):
    """k behind a depthwise k of each input, folded: little memory (Cao et al. 2020, DO-Conv).

    For convolutions with a kernel above 1. It starts as the layer, trained or not. `select` and
    `exclude` are patterns as of `expand.plan`.
    """

    def __init__(self, **choice: Unpack[Choice]) -> None:
        super().__init__(**choice)

    def _factors(self, layer: nn.Module, row: LayerPlan, init: Init) -> Factors:
        return Overparameters(cast("nn.Conv2d", layer))

    def _parts(self, conv: nn.Conv2d) -> tuple[tuple[str, ...], str]:
        return (f"depthwise {by(conv.kernel_size)} - {by(conv.kernel_size)}",), ""
