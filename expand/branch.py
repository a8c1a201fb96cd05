"""One branch of a convolution: convolutions and norms in a row, which are one kernel in eval mode.

I, O: input and output channels of the layer, g: its groups, k: its kernel. Every branch reads a
window of the layer's padded input, so that it is a kernel k whose other taps are zero.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from expand.factors import Factors, own_bias
from expand.folding import fold
from expand.running import CONVOLUTIONS, Product

__all__ = ["Branch", "BranchFactors", "ScaleNorm"]

Operation = Literal["kernel", "average", "identity"]

_POOLS: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_NORMS: tuple[type[_BatchNorm], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class ScaleNorm(_BatchNorm):
    """BatchNorm without mean and shift: x [B, C, ...] * weight / sqrt(variance + eps).

    For layers whose bias is absent or frozen, which have no place for a shift. The network's own
    BatchNorm behind such a layer takes away what mean and shift would be.
    """

    bias: None

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.bias = None

    def reset_parameters(self) -> None:
        """Start again at a scale of one, without running variance."""
        self.reset_running_stats()
        nn.init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Scale each channel, by the batch's variance in train mode."""
        variance = cast("Tensor", self.running_var)
        if self.training:
            axes, count = (0, *range(2, input.dim())), input.numel() // input.shape[1]
            if count == 1:
                size = tuple(input.shape)
                raise ValueError(f"more than 1 value per channel is needed in training, got {size}")
            variance = input.to(self.weight.dtype).var(axes, correction=0)
            with torch.no_grad():
                tracked = cast("Tensor", self.num_batches_tracked).add_(1)
                share = 1 / tracked if self.momentum is None else self.momentum
                unbiased = variance * (count / max(1, count - 1))
                cast("Tensor", self.running_var).lerp_(unbiased, share)
        scale = self.weight * (variance + self.eps).rsqrt()
        return input * scale.to(input.dtype).view(-1, *[1] * (input.dim() - 2))


class Branch(nn.Module):
    """[1x1 with `inner` channels, norm,] then an operation on a window, norm.

    The window is `size` taps in the middle of the layer's kernel, left of it in an even one:
    `kernel` is a convolution of that size, `average` the mean of its taps, `identity` the input
    itself (a window of one tap, I = O). Norms are BatchNorms where the layer has a bias, else
    `ScaleNorm`s. What a 1x1 and its norm make of zero is what stands around their output, so that
    borders are exact (DBB paper, Ding et al. 2021, 3.2).
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        size: Sequence[int],
        operation: Operation = "kernel",
        *,
        inner: int = 0,
    ) -> None:
        super().__init__()
        self.size, self.operation = tuple(size), operation
        self.outputs, self.groups = conv.out_channels, conv.groups
        self.kernel_size, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        self.amounts = _amounts(conv, self.size)
        self.padding_mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        kind = len(self.size) - 1
        like = {"device": conv.weight.device, "dtype": conv.weight.dtype}
        made = partial(cast("Any", CONVOLUTIONS[kind]), groups=conv.groups, bias=False, **like)
        shifts = conv.bias is not None and conv.bias.requires_grad
        norm: Any = _NORMS[kind] if shifts else ScaleNorm
        self.point = made(conv.in_channels, inner, 1) if inner else None
        self.point_norm = norm(inner, **like) if inner else None
        how: dict[str, Any] = {"stride": conv.stride, "dilation": conv.dilation}
        left, right = self.amounts[::-2], self.amounts[-2::-2]
        zeros = self.padding_mode == "constant" and not (inner and conv.bias is not None)
        if operation == "kernel" and zeros and left == right and min(left) >= 0:
            how["padding"], self.amounts = left, [0] * len(self.amounts)  # without a copy
        wide = (inner or conv.in_channels, conv.out_channels, self.size)
        self.kernel = made(*wide, **how) if operation == "kernel" else None
        self.norm = norm(conv.out_channels, **like)
        self._begin()

    def reset_parameters(self) -> None:
        """Draw the convolutions again, as torch does; norms start at one."""
        for module in self.children():
            cast("nn.Conv2d", module).reset_parameters()
        self._begin()

    def _begin(self) -> None:
        """Let a 1x1 with as many outputs as inputs before a kernel begin as the identity."""
        point = self.point
        if (
            point is not None
            and self.kernel is not None
            and point.in_channels == point.out_channels
        ):
            nn.init.dirac_(point.weight, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        """Return the branch's share of the layer's output."""
        around = None
        if self.point is not None and self.point_norm is not None:
            input = self.point_norm(self.point(input))
            _, around = _affine(self.point_norm)
        return self.norm(self._operate(_pad(input, self.amounts, self.padding_mode, around)))

    def _operate(self, padded: Tensor) -> Tensor:
        if self.kernel is not None:
            return self.kernel(padded)
        if self.operation == "identity":  # whose stride is 1
            return padded
        if self.operation == "average" and all(each == 1 for each in self.dilation):
            return _POOLS[len(self.size) - 1](padded, self.size, self.stride)
        weight = self._fixed(padded)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.size) - 1]
        return convolve(padded, weight, None, self.stride, 0, self.dilation, self.groups)

    def _fixed(self, like: Tensor) -> Tensor:
        """The weight [O, O / g, *window] of the mean of each channel, or of the channel itself."""
        size, ones = self.size, [1] * len(self.size)
        weight = like.new_zeros(self.outputs, self.outputs // self.groups, *ones)
        return nn.init.dirac_(weight, self.groups).expand(-1, -1, *size) / prod(size)

    def fold(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return what the branch is in eval mode: a weight [O, I / g, *k], and a bias [O]."""
        like = self.norm.weight.detach().to(dtype)
        last = self._fixed(like) if self.kernel is None else self.kernel.weight
        parts = [(last, self.norm)]
        if self.point is not None:
            parts.insert(0, (self.point.weight, cast("_BatchNorm", self.point_norm)))
        weights, biases = [], []
        for weight, norm in parts:
            scale, shift = _affine(norm, dtype)
            weights.append(weight.to(dtype) * scale.view(-1, *[1] * (weight.dim() - 1)))
            biases.append(shift)
        product, bias = fold(weights, biases, groups=self.groups)
        return F.pad(product, _around(self.kernel_size, self.size)), bias


class BranchFactors(Factors):
    """Branches of a convolution, the first of which has its kernel, and its bias, which is added.

    With `preserve` the first starts with the layer's `weight` and the others at zero: in eval mode
    it is the same function.
    """

    linear = False

    @torch.no_grad()
    def __init__(self, conv: nn.Conv2d, branches: Sequence[Branch], *, preserve: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.bias = own_bias(conv)
        if preserve:
            for branch in branches:
                branch.norm.weight.zero_()
            norm = branches[0].norm
            cast("nn.Conv2d", branches[0].kernel).weight.copy_(conv.weight)
            norm.weight.copy_((cast("Tensor", norm.running_var) + norm.eps).sqrt())

    def forward(self, input: Tensor) -> Tensor:
        """Return the sum of the branches and the bias."""
        total = cast("Tensor", sum(branch(input) for branch in self.branches))
        own = self.bias
        return total if own is None else total + own.view(-1, *[1] * (input.dim() - 2))

    def fold(self, dtype: torch.dtype) -> Product:
        """Compute weight and bias of the layer that this is in eval mode, differentiably."""
        weights, shifts = zip(*(cast("Branch", b).fold(dtype) for b in self.branches), strict=True)
        own = [shift for shift in shifts if shift is not None]  # none beside a frozen bias
        bias = None if self.bias is None else sum(own, start=self.bias.to(dtype))
        return cast("Tensor", sum(weights)), bias

    def reset_parameters(self) -> None:
        """Draw the branches again, as torch does; no bias."""
        for branch in self.branches:
            cast("Branch", branch).reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def _affine(norm: _BatchNorm, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor | None]:
    """Return scale and shift [C] of a norm in eval mode; no shift of a `ScaleNorm`."""
    values = norm.weight, norm.running_var, norm.running_mean
    weight, variance, mean = (cast("Tensor", v).to(dtype or norm.weight.dtype) for v in values)
    scale, bias = weight * (variance + norm.eps).rsqrt(), cast("Tensor | None", norm.bias)
    if bias is None and not isinstance(norm, ScaleNorm):
        raise TypeError(
            f"a norm of an expanded layer was replaced by {type(norm).__name__}, which subtracts a "
            "mean, and the layer has no bias for it: convert the network before it is expanded"
        )
    return scale, None if bias is None else bias.to(scale.dtype) - mean * scale


def _around(kernel: Sequence[int], size: Sequence[int]) -> list[int]:
    """Return the taps of a kernel on both sides of a window in its middle, last dimension first."""
    spare = [k - s for k, s in zip(kernel, size, strict=True)][::-1]
    return [amount for each in spare for amount in (each // 2, each - each // 2)]


def _amounts(conv: nn.Conv2d, size: Sequence[int]) -> list[int]:
    """Return how much `F.pad` adds to the input, or crops, for a window of a layer's kernel."""
    dilation = [d for d in conv.dilation[::-1] for _ in range(2)]
    taps = _around(conv.kernel_size, size)
    padding = conv._reversed_padding_repeated_twice
    return [p - d * t for p, d, t in zip(padding, dilation, taps, strict=True)]


def _pad(input: Tensor, amounts: Sequence[int], mode: str, around: Tensor | None) -> Tensor:
    """Pad, then crop; zeros are `around` [C] where that is given."""
    more, less = [max(0, each) for each in amounts], [min(0, each) for each in amounts]
    if any(more):
        if mode == "constant" and around is not None:
            value = around.to(input.dtype).view(-1, *[1] * (input.dim() - 2))
            input = F.pad(input - value, more) + value
        else:
            input = F.pad(input, more, mode=mode)
    return F.pad(input, less) if any(less) else input
