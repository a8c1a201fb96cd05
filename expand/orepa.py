"""OREPA (Hu et al., CVPR 2022): a kernel as a sum of six branches, each scaled per output channel.

origin, a kernel like the layer's; average, a 1x1 spread evenly over the kernel's taps; prior, a 1x1
times a fixed cosine for each output channel; point, a 1x1 at the centre; inner, identity + 1x1
among the inputs, then a kernel; separable, a depthwise kernel to 8 channels of each input, then
1x1. All is linear and without normalisation: the layer runs on the sum, and the network's own
BatchNorm, which the paper wants behind it, is the network's. Letters: `expand.doconv`.
"""

from collections.abc import Sequence
from math import pi, prod, sqrt
from typing import cast

import torch
from torch import Tensor, nn

from expand.chains import by
from expand.doconv import Values, separable
from expand.factors import Factors, own_bias
from expand.initialise import Init, check_values, scale
from expand.planning import LayerPlan
from expand.rewriting import Branched, Folded
from expand.running import Product

__all__ = ["OREPA"]

MULTIPLIER = 8
SCALES = (0.25, 0.25, 0.0, 1.0, 0.5, 0.5)
"""Of origin, average, prior, point, inner, separable: those of the authors' code."""


class Branches(Factors):
    """The branches' parameters and scales, as in the authors' code, on any kernel.

    `origin` and `outer` [O, I / g, K]; `points` [O, I / g, 3], of average, prior and point; `inner`
    [I, I / g], zero at first; `depthwise` [I, K, 8]; `pointwise` [I, 8, O / g]; `scale` [6, O].
    """

    basis: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.groups, self.kernel_size = conv.groups, conv.kernel_size
        inputs, outputs = conv.in_channels, conv.out_channels
        width, taps, empty = inputs // conv.groups, prod(conv.kernel_size), conv.weight.new_empty
        self.origin, self.outer = (Values(empty(outputs, width, taps)) for _ in range(2))
        self.points = Values(empty(outputs, width, 3))
        self.inner = Values(empty(inputs, width))
        self.depthwise = Values(empty(inputs, taps, MULTIPLIER))
        self.pointwise = Values(empty(inputs, MULTIPLIER, outputs // conv.groups))
        self.scale = Values(empty(len(SCALES), outputs))
        self.register_buffer("basis", _basis(outputs, conv.kernel_size).to(conv.weight))
        self.bias = None
        self.reset_parameters()
        self.bias = own_bias(conv)

    def fold(self, dtype: torch.dtype) -> Product:
        """Compute the layer's weight and bias in `dtype`, differentiably."""
        origin, outer, points, inner, depthwise, pointwise, scale, basis = (
            each.to(dtype) for each in (*self._weights(), self.basis)
        )
        total = torch.bmm(points, basis * scale[1:4].t()[..., None])
        chain = outer + self._through(outer, inner)
        apart = separable(depthwise, pointwise, self.groups)
        for part, place in ((origin, 0), (chain, 4), (apart, 5)):
            total = torch.addcmul(total, part, scale[place, :, None, None])
        bias = None if self.bias is None else self.bias.to(dtype)
        return total.reshape(*total.shape[:2], *self.kernel_size), bias

    def _weights(self) -> Sequence[Tensor]:
        names = ("origin", "outer", "points", "inner", "depthwise", "pointwise", "scale")
        return [cast("Values", getattr(self, name)).weight for name in names]

    def _through(self, outer: Tensor, inner: Tensor) -> Tensor:
        """The kernels of `outer` behind the 1x1 of `inner`: [O, I / g, K]."""
        outputs, width, taps = outer.shape
        if width == 1:  # a number for each group, which has one input
            return outer * inner.expand(-1, outputs // self.groups).reshape(outputs, 1, 1)
        rows = outer.transpose(1, 2).reshape(self.groups, -1, width)
        product = torch.bmm(rows, inner.reshape(self.groups, width, width))
        return product.reshape(outputs, taps, width).transpose(1, 2)

    def reset_parameters(self) -> None:
        """Draw the branches as the authors do (He et al., 2015); their scales, no bias."""
        origin, outer, points, inner, depthwise, pointwise, scale = self._weights()
        width, taps = origin.shape[1:]
        fans = (width * taps, width * taps, width, taps, width * MULTIPLIER)
        for values, fan in zip((origin, outer, points, depthwise, pointwise), fans, strict=True):
            nn.init.uniform_(values, -sqrt(6 / fan), sqrt(6 / fan))
        nn.init.zeros_(inner)
        with torch.no_grad():
            scale.copy_(torch.tensor(SCALES)[:, None].expand_as(scale))
            if self.bias is not None:
                self.bias.zero_()

    @torch.no_grad()
    def start(self, weight: Tensor, init: Init) -> None:
        """Start at the size of the layer's weight, or at the weight itself.

        default: leave the branches. scaled: they shrink alike, so that their sum has the root mean
        square of `weight`; their scales stay. preserve: the origin is the weight, the others
        are zero and learn, one factor of each: the prior's scale is zero, its numbers are not.
        """
        check_values(weight, init)
        origin, outer, points, _, _, pointwise, _ = self._weights()
        if init == "default":
            return
        if init == "preserve":
            origin.copy_(weight.reshape(origin.shape) / SCALES[0])
            for values in (outer, points[..., 0], points[..., 2], pointwise):
                values.zero_()
            return
        scale(weight, self.fold(torch.float64)[0], (origin, outer, points, pointwise))


class OREPA(Branched, Folded):
    """k + 5 linear branches, folded into one a step: little memory (Hu et al. 2022, OREPA).

    For convolutions with a kernel above 1 and a BatchNorm behind them. `init`: `default` is the
    authors', whose sum is several times as large as the layer's default weight; `scaled` shrinks
    the branches to the size of the layer's; `preserve` keeps a trained layer's function. `select`
    and `exclude` are patterns as of `expand.plan`.
    """

    def _factors(self, layer: nn.Module, row: LayerPlan, init: Init) -> Factors:
        conv = cast("nn.Conv2d", layer)
        made = Branches(conv)
        made.start(conv.weight, init)
        return made

    def _parts(self, conv: nn.Conv2d) -> tuple[tuple[str, ...], str]:
        kernel = by(conv.kernel_size)
        return (kernel, "average", "prior", "1x1", f"1x1-{kernel}", "depthwise-1x1"), ""


def _basis(outputs: int, kernel: Sequence[int]) -> Tensor:
    """What average, prior and point make of a number, for each output channel: [O, 3, K].

    The prior: as many parts of the output channels as the kernel has dimensions, each with cosines
    along its own: cos(pi (position + 0.5) frequency / size), at frequencies from 1.
    """
    basis = torch.zeros(outputs, 3, *kernel, dtype=torch.float64)
    basis[:, 0] = 1 / prod(kernel)
    basis[(slice(None), 2, *((size - 1) // 2 for size in kernel))] = 1
    for axis, size in enumerate(kernel):
        first, end = (-(-outputs * part // len(kernel)) for part in (axis, axis + 1))
        frequencies = torch.arange(1, end - first + 1, dtype=torch.float64)
        cosines = torch.cos(pi / size * frequencies[:, None] * (torch.arange(size) + 0.5))
        shape = [1] * len(kernel)
        shape[axis] = size
        basis[first:end, 1] = cosines.reshape(-1, *shape).expand(-1, *kernel)
    return basis.flatten(2)
