"""The algebra of a chain of linear layers: its product is one layer, exactly.

Composing two kernels with stride 1 is their full convolution: offsets add, channels contract
(ExpandNets paper, equations 1 and 2). Strides and dilation of the chain do not enter: a stride
stands on the last factor that has a kernel, or behind it, and all kernels dilate alike.

Weights are `taps` here, [out, *kernel, in / groups]: input channels innermost, as channels-last
memory has them. A Linear's kernel is empty. A product is then one matrix product of every tap of
one kernel with every tap of the other, whose results are added where offsets coincide.
"""

from collections.abc import Sequence
from math import prod
from typing import Union

import torch
from torch import Tensor

__all__ = [
    "Order",
    "cheapest_order",
    "compose",
    "compose_backward",
    "identity_weight",
    "regroup",
    "taps",
    "weight",
]

Order = Union[int, tuple["Order", "Order"]]  # noqa: UP007 - X | Y cannot hold its own name


def taps(weight: Tensor) -> Tensor:
    """Turn a torch weight [out, in / groups, *kernel] into taps; a view."""
    return weight.movedim(1, -1) if weight.dim() > 2 else weight


def weight(taps: Tensor) -> Tensor:
    """Turn taps into a torch weight [out, in / groups, *kernel]; a view.

    Of a single tap or input channel with the strides that torch gives such a weight, as
    DistributedDataParallel wants its gradient to have.
    """
    out, *kernel, width = taps.shape
    if width == 1 or prod(kernel) == 1:
        return taps.reshape(out, width, *kernel)
    return taps.movedim(-1, 1)


def compose(first: Tensor, second: Tensor, groups: int = 1) -> Tensor:
    """Return the taps of `second` after `first`: [out2, *(k1 + k2 - 1), in1 / groups]."""
    k1, k2 = first.shape[1:-1], second.shape[1:-1]
    rows, columns = _matrices(first, second, groups)
    product, out, width = rows @ columns, second.shape[0], first.shape[-1]
    if prod(k1) == 1 or prod(k2) == 1:  # then every pair has an offset of its own
        return product.reshape(out, *(k2 if prod(k1) == 1 else k1), width)
    return _overlap(product.reshape(out, *k2, *k1, width), len(k1))


def compose_backward(
    first: Tensor, second: Tensor, grad: Tensor, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `first` and `second`, from that of what `compose` makes of them."""
    rows, columns = _matrices(first, second, groups)
    pairs = _spread(grad, first.shape[1:-1], second.shape[1:-1])
    pairs = pairs.reshape(*rows.shape[:-1], columns.shape[-1])
    of_first, of_second = rows.mT @ pairs, pairs @ columns.mT
    return of_first.reshape(first.shape), of_second.reshape(second.shape)


def _matrices(first: Tensor, second: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """All taps of `second` as rows, of `first` as columns, in groups where there are several."""
    if groups == 1:
        return second.reshape(-1, second.shape[-1]), first.reshape(first.shape[0], -1)
    rows = second.reshape(groups, -1, second.shape[-1])
    return rows, first.reshape(groups, first.shape[0] // groups, -1)


def _overlap(pairs: Tensor, dimensions: int) -> Tensor:
    """Add the pairs of taps [out, *k2, *k1, in] whose offsets have the same sum."""
    for axis in range(dimensions, 0, -1):  # pairs: [out, *k2, *k1, *(what is added already), in]
        other = 2 * axis
        count, size = pairs.shape[axis], pairs.shape[other]
        if count == 1:
            pairs = pairs.squeeze(axis)
            continue
        if size == 1:
            pairs = pairs.squeeze(other).movedim(axis, other - 1)
            continue
        shape = list(pairs.shape)
        shape[other] = count + size - 1
        added = pairs.new_zeros(shape[:axis] + shape[axis + 1 :])
        for offset in range(count):
            added.narrow(other - 1, offset, size).add_(pairs.select(axis, offset))
        pairs = added
    return pairs


def _spread(whole: Tensor, k1: Sequence[int], k2: Sequence[int]) -> Tensor:
    """Give every pair of taps what stands at the sum of their offsets: [out, *k2, *k1, in]."""
    if prod(k1) == 1 or prod(k2) == 1:
        return whole
    for axis, size in enumerate(k1, 1):
        whole = whole.unfold(axis, size, 1)
    return whole.movedim(1 + len(k1), -1)


def regroup(weight: Tensor, groups: int, into: int) -> Tensor:
    """Return the same layer with fewer groups: blocks [out, in / groups] on a zero diagonal."""
    if groups == into:
        return weight
    blocks = groups // into
    out, width, *kernel = weight.shape
    parts = weight.reshape(into, blocks, out // groups, 1, width, *kernel)
    diagonal = torch.eye(blocks, dtype=weight.dtype, device=weight.device)
    diagonal = diagonal.reshape(1, blocks, 1, blocks, 1, *[1] * len(kernel))
    return (parts * diagonal).reshape(out, blocks * width, *kernel)


def identity_weight(like: Tensor) -> Tensor:
    """The weight of a layer like that of `like` [out, in / groups, *kernel] that returns its input.

    It has as many outputs as inputs; a kernel's centre is the tap at (size - 1) // 2.
    """
    _, width, *kernel = like.shape
    whole, outputs = torch.zeros_like(like), torch.arange(len(like), device=like.device)
    whole[(outputs, outputs % width, *((size - 1) // 2 for size in kernel))] = 1
    return whole


def cheapest_order(shapes: Sequence[tuple[int, int, Sequence[int]]]) -> tuple[int, Order]:
    """Parenthesise a chain of (out, in / groups, kernel): the matrix-chain recurrence.

    Returns the multiply-adds of that order, and the order: the index of a factor, or a pair of
    orders, first and second.
    """
    best: dict[tuple[int, int], tuple[int, Order]] = {(i, i): (0, i) for i in range(len(shapes))}
    for length in range(2, len(shapes) + 1):
        for start in range(len(shapes) - length + 1):
            end = start + length - 1
            options = []
            for cut in range(start, end):
                left, right = best[start, cut], best[cut + 1, end]
                pairs = _taps(shapes[start : cut + 1]) * _taps(shapes[cut + 1 : end + 1])
                cost = shapes[end][0] * shapes[cut + 1][1] * shapes[start][1] * pairs
                options.append((cost + left[0] + right[0], (left[1], right[1])))
            best[start, end] = min(options, key=lambda option: option[0])
    return best[0, len(shapes) - 1]


def _taps(shapes: Sequence[tuple[int, int, Sequence[int]]]) -> int:
    """The taps of a product of kernels."""
    sizes = zip(*(kernel for _, _, kernel in shapes), strict=True)
    return prod(sum(size) - len(size) + 1 for size in sizes)
