"""How far the weights of a layer's output channels are apart: what one scale for all would lose."""

from dataclasses import dataclass
from math import log2
from typing import cast

import torch
from torch import Tensor, nn

from quantize.layers import linear_layers

__all__ = ["WeightRange", "weight_ranges"]


@dataclass(frozen=True)
class WeightRange:
    """A layer's largest |w| of all, and the median and the least of its channels' largest.

    `bits_lost` is log2(largest / median): the bits of int8 that half of the channels would lose or
    more if one scale served them all. With a scale a channel nothing is lost.
    """

    path: str
    largest: float
    median: float
    least: float

    @property
    def bits_lost(self) -> float:
        """The bits that the median channel loses; infinite if it is all zeros."""
        return log2(self.largest / self.median) if self.median else float("inf")


@torch.no_grad()
def weight_ranges(network: nn.Module) -> list[WeightRange]:
    """Return the ranges of a network's convolutions and fully-connected layers.

    Of an expanded layer, those of its compact weight. Runtimes fold BatchNorm into the weights
    first: for what they see, pass `torch.fx.experimental.optimization.fuse(network)`.
    """
    rows = []
    for path, layer, _ in linear_layers(network):
        if isinstance(layer, nn.MultiheadAttention):
            continue
        weight = cast("Tensor", layer.weight)
        sizes = weight.flatten(1).abs().amax(1).float()
        rows.append(WeightRange(path, *(each.item() for each in
                    (sizes.amax(), sizes.quantile(0.5), sizes.amin()))))  # fmt: skip
    return rows
