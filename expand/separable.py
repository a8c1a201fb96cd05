"""A depthwise kernel and a pointwise one behind it, as one weight; OREPA and DO-Conv have such.

Letters: O, I: output and input channels; g: groups; K: taps of the kernel; t: multiplier.
"""

import torch
from torch import Tensor, nn

__all__ = ["Values", "separable"]


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
