"""Factors whose product is a given weight.

A factor is peeled off either end of the chain until one is left, which takes the rest. Peeled off
the input's end, a factor copies each input channel once for every corner of its kernel: two
offsets in a dimension of 3, one in a dimension of 1. The rest then needs a kernel two taps
shorter there, since a tap at t is reached from an offset u by the tap t - u. So a 3x3 factor needs
an inner width of 4 times its input channels, a 1x1 factor of once; off the output's end likewise.
Orthonormal mixing spreads the copies over all inner channels, and what the mixing does not reach
keeps its random start, which the product does not see.

G: groups; all tensors per group, [G, out, in, *kernel], float64.
"""

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

__all__ = ["channelwise", "preserve"]


def preserve(starts: Sequence[Tensor], target: Tensor, groups: int) -> list[Tensor] | None:
    """Return factors with the shapes of `starts` and the product `target`; None where too narrow.

    `starts` and `target` are [out, in / G, *kernel]; the random numbers are torch's.
    """
    wanted = _per_group(target, groups)
    wholes = [_per_group(start, groups) for start in starts]
    widths = [whole.shape[1] for whole in wholes[:-1]]
    solved = _solve([whole.shape[3:] for whole in wholes], widths, wanted)
    if solved is None:
        return None
    factors, core = solved
    frames = [None, *map(_frame, factors[:-1], widths), None]
    size = float(torch.linalg.matrix_norm(wanted.flatten(2), 2).max()) ** (1 / len(factors)) or 1.0
    values = []
    for index, (factor, whole) in enumerate(zip(factors, wholes, strict=True)):
        scale = size ** (1 - len(factors)) if index == core else size  # alike, as trained ones are
        value = _between(factor * scale, frames[index], frames[index + 1])
        if index == core:
            value = value + _unseen(whole, frames[index], frames[index + 1])
        values.append(value.reshape(starts[index].shape))
    return values


def channelwise(starts: Sequence[Tensor], target: Tensor) -> list[Tensor]:
    """Preserve a depthwise `target` [c, 1, *k] whose kernel factor has a group per inner channel.

    The product is the sum over a channel's inner channels of out * kernel * in: with in and out
    of 1, the kernels' mean deviation from the target is taken away from each.
    """
    first, kernels, last = starts
    inner = first.shape[0] // target.shape[0]
    each = kernels.reshape(target.shape[0], inner, *kernels.shape[2:])
    wanted = target / inner
    each = each - each.mean(1, keepdim=True) + wanted
    return [torch.ones_like(first), each.reshape(kernels.shape), torch.ones_like(last)]


def _solve(
    kernels: Sequence[Sequence[int]], widths: Sequence[int], target: Tensor
) -> tuple[list[Tensor], int] | None:
    """Return factors no wider than needed, and which of them took the rest."""
    if len(kernels) == 1:
        return [target], 0
    for first in sorted((True, False), key=lambda f: _corners(kernels[0 if f else -1])):
        kernel, width = (kernels[0], widths[0]) if first else (kernels[-1], widths[-1])
        peeled = _peel(target if first else target.transpose(1, 2), kernel, width)
        if peeled is None:
            continue
        factor, rest = peeled if first else (part.transpose(1, 2) for part in peeled)
        others = slice(1, None) if first else slice(-1)
        inner = _solve(kernels[others], widths[others], rest)
        if inner is not None:
            factors, core = inner
            return ([factor, *factors], core + 1) if first else ([*factors, factor], core)
    return None


def _peel(target: Tensor, kernel: Sequence[int], width: int) -> tuple[Tensor, Tensor] | None:
    """Peel a factor off the input's end of [G, out, in, *k]; None where it cannot be done.

    Returns the factor [G, S in, in, *kernel], S copies of the input, and the rest
    [G, out, S in, *k - kernel + 1].
    """
    groups, _, inputs, *taps = target.shape
    left = [k - size + 1 for k, size in zip(taps, kernel, strict=True)]
    offsets = list(product(*((0, size - 1) if size > 1 else (0,) for size in kernel)))
    coverable = all(
        size == 1 or (size == 3 and k >= 2) for size, k in zip(kernel, left, strict=True)
    )
    if not coverable or width < len(offsets) * inputs:
        return None
    factor = target.new_zeros(groups, len(offsets), inputs, inputs, *kernel)
    ways = torch.zeros(taps, dtype=target.dtype)
    windows = [tuple(slice(u, u + k) for u, k in zip(o, left, strict=True)) for o in offsets]
    for copy, (offset, window) in enumerate(zip(offsets, windows, strict=True)):
        factor[(slice(None), copy, range(inputs), range(inputs), *offset)] = 1
        ways[window] += 1
    shared = target / ways
    rest = torch.cat([shared[(..., *window)] for window in windows], dim=2)
    return factor.flatten(1, 2), rest


def _corners(kernel: Sequence[int]) -> int:
    return prod(2 if size > 1 else 1 for size in kernel)


def _frame(factor: Tensor, width: int) -> Tensor:
    """Random orthonormal columns [G, width, used] for the outputs that a factor uses."""
    groups, used = factor.shape[:2]
    return torch.linalg.qr(torch.randn(groups, width, used, dtype=factor.dtype)).Q


def _between(factor: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
    """Turn a factor between used channels into one between all inner channels."""
    if before is not None:
        factor = torch.einsum("goi...,gpi->gop...", factor, before)
    if after is not None:
        factor = torch.einsum("goi...,gqo->gqi...", factor, after)
    return factor


def _unseen(start: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
    """The part of a start that the product does not see, between the two frames."""
    seen = start
    if before is not None:
        seen = torch.einsum("goi...,giu,gju->goj...", seen, before, before)
    if after is not None:
        seen = torch.einsum("goi...,gou,gqu->gqi...", seen, after, after)
    return start - seen


def _per_group(weight: Tensor, groups: int) -> Tensor:
    return weight.reshape(groups, -1, *weight.shape[1:])
