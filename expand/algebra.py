"""The algebra of a chain of linear layers: its product is one layer, exactly.

A factor's weight is [out, in / groups, *kernel], as torch has it; a Linear's kernel is empty.
Composing two kernels with stride 1 is their full convolution: offsets add, channels contract
(ExpandNets paper, equations 1 and 2). Strides and dilation of the chain do not enter: a stride
stands on the last factor that has a kernel, or behind it, and all kernels dilate alike.

G: groups. K: taps of a kernel, the product of its sizes.
"""

from collections.abc import Sequence
from math import prod
from typing import Union

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Order", "cheapest_order", "compose", "fold_biases", "fold_weights", "regroup"]

Order = Union[int, tuple["Order", "Order"]]  # noqa: UP007 - X | Y cannot hold its own name

_FULL_CONVOLUTION = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def compose(first: Tensor, second: Tensor, groups: int = 1) -> Tensor:
    """Return the weight of `second` after `first`: [out2, in1 / groups, *(k1 + k2 - 1)]."""
    if prod(first.shape[2:]) == 1:
        return _after_pointwise(first, second, groups)
    if prod(second.shape[2:]) == 1:
        return _before_pointwise(first, second, groups)
    mid, out = first.shape[0], second.shape[0]
    taps = second.reshape(groups, out // groups, mid // groups, *second.shape[2:])
    taps = taps.transpose(1, 2).reshape(mid, out // groups, *second.shape[2:])
    full = _FULL_CONVOLUTION[first.dim() - 2]
    return full(first.transpose(0, 1), taps, groups=groups).transpose(0, 1)


def _after_pointwise(first: Tensor, second: Tensor, groups: int) -> Tensor:
    """1x1 first: [G, out K, mid] @ [G, mid, in]; no copy where `second` is channels-last."""
    taps = second.movedim(1, -1)  # [out, *k, mid / G]
    rows = taps.reshape(groups, -1, taps.shape[-1])
    product = rows @ first.reshape(groups, first.shape[0] // groups, first.shape[1])
    return product.reshape(*taps.shape[:-1], first.shape[1]).movedim(-1, 1)


def _before_pointwise(first: Tensor, second: Tensor, groups: int) -> Tensor:
    """1x1 second: [G, out, mid] @ [G, mid, K in]; no copy where `first` is channels-last."""
    taps = first.movedim(1, -1)  # [mid, *k, in / G]
    columns = taps.reshape(groups, first.shape[0] // groups, -1)
    product = second.reshape(groups, second.shape[0] // groups, second.shape[1]) @ columns
    return product.reshape(second.shape[0], *taps.shape[1:]).movedim(-1, 1)


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


def fold_weights(weights: Sequence[Tensor], groups: int = 1, order: Order | None = None) -> Tensor:
    """Multiply a chain, first factor first, in `order`; default: the cheapest for its shapes."""
    if order is None:
        _, order = cheapest_order([(w.shape[0], w.shape[1], w.shape[2:]) for w in weights])
    return _multiply(weights, order, groups)


def fold_biases(
    weights: Sequence[Tensor], biases: Sequence[Tensor | None], groups: int = 1
) -> Tensor | None:
    """Return the chain's bias [out]: each factor's bias, carried through the later ones.

    None where no factor has one. Exact because nothing after the first factor pads: a bias meets
    every tap of a later kernel.
    """
    total = biases[0]
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        carried = None if total is None else _through(weight, total, groups)
        total = carried if bias is None else bias if carried is None else carried + bias
    return total


def _through(weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """What a factor makes of a bias that meets all of its taps: [out]."""
    matrix = weight.flatten(2).sum(-1) if weight.dim() > 2 else weight
    matrix = matrix.reshape(groups, -1, matrix.shape[1])
    return (matrix @ bias.reshape(groups, -1, 1)).reshape(-1)


def _multiply(weights: Sequence[Tensor], order: Order, groups: int) -> Tensor:
    if isinstance(order, int):
        return weights[order]
    first, second = order
    return compose(_multiply(weights, first, groups), _multiply(weights, second, groups), groups)


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
                taps = _taps(shapes[start : cut + 1]) * _taps(shapes[cut + 1 : end + 1])
                cost = shapes[end][0] * shapes[cut + 1][1] * shapes[start][1] * taps
                options.append((cost + left[0] + right[0], (left[1], right[1])))
            best[start, end] = min(options, key=lambda option: option[0])
    return best[0, len(shapes) - 1]


def _taps(shapes: Sequence[tuple[int, int, Sequence[int]]]) -> int:
    """The taps of a product of kernels."""
    sizes = zip(*(kernel for _, _, kernel in shapes), strict=True)
    return prod(sum(size) - len(size) + 1 for size in sizes)
