"""Fold a chain into one layer's weight and bias, as a single node of the autograd graph.

A chain of three layers with biases is some thirty small operations, whose graph costs more than
its arithmetic in a compact network. Here it is one, with the backward pass written out.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import Function

from expand.algebra import Order, cheapest_order, compose, compose_backward, taps, weight

__all__ = ["float32", "fold", "fold_once"]

_Parts = list[Tensor | None]


def fold(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    *,
    groups: int = 1,
    order: Order | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Multiply a chain, first factor first: [out, in / groups, *kernel], and its bias [out].

    `order` of the products; default: the cheapest for the shapes. The bias is None where no
    factor has one: each is carried through the later factors, which is exact because nothing
    after the first factor pads, so that a bias meets every tap of a later kernel.
    """
    if order is None:
        _, order = cheapest_order([(w.shape[0], w.shape[1], w.shape[2:]) for w in weights])
    views = [taps(each) for each in weights]
    with float32(views[0]):
        product, _, carried, _ = _folded(views, biases, groups, order)
    return weight(product), carried[-1]


def fold_once(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    *,
    groups: int,
    order: Order,
) -> tuple[Tensor, Tensor | None]:
    """Return what `fold` does, as one node of the graph.

    Not under torch.func and the like, which cannot see through the node.
    """
    last = None
    if not any(bias is not None for bias in biases[:-1]):  # then there is nothing to carry
        biases, last = [None] * len(biases), biases[-1]
    folded, bias = cast("Any", _Fold.apply(groups, order, *weights, *biases))
    return folded, last if bias is None else bias


class _Fold(Function):
    @staticmethod
    def forward(ctx: Any, groups: int, order: Order, *tensors: Any) -> Any:
        count = len(tensors) // 2
        views, biases = [taps(each) for each in tensors[:count]], tensors[count:]
        with float32(views[0]):
            product, inner, carried, matrices = _folded(views, biases, groups, order)
        ctx.groups, ctx.order, ctx.count = groups, order, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *carried, *matrices, *inner)
        return weight(product), carried[-1]

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor | None) -> Any:
        grad, of_bias = outputs
        count, groups, saved = ctx.count, ctx.groups, ctx.saved_tensors
        views = [taps(each) for each in saved[:count]]
        biases, carried, matrices = (saved[i * count : (i + 1) * count] for i in (1, 2, 3))
        inner = list(saved[4 * count :])
        grads: _Parts = [None] * (2 * count)
        with float32(views[0]):
            if torch.is_grad_enabled():  # to be differentiated again: with products of its own
                _, inner, carried, matrices = _folded(views, biases, groups, ctx.order)
            if grad is not None:
                _unmultiply(views, ctx.order, groups, inner, taps(grad), grads)
            if of_bias is not None:
                _uncarry(views, biases, carried, matrices, of_bias, grads)
        of_weights = [None if g is None else weight(g) for g in grads[:count]]
        return None, None, *of_weights, *grads[count:]


def _folded(
    views: Sequence[Tensor], biases: Sequence[Tensor | None], groups: int, order: Order
) -> tuple[Tensor, list[Tensor], _Parts, _Parts]:
    """Return the product, the products inside of it, and what `_carry` returns."""
    done: list[Tensor] = []
    product = _multiply(views, order, groups, done)
    return product, done[:-1], *_carry(views, biases, groups)


def _multiply(views: Sequence[Tensor], order: Order, groups: int, done: list[Tensor]) -> Tensor:
    """Multiply in order; append every product to `done`, inner ones before outer ones."""
    if isinstance(order, int):
        return views[order]
    first = _multiply(views, order[0], groups, done)
    second = _multiply(views, order[1], groups, done)
    done.append(compose(first, second, groups))
    return done[-1]


def _unmultiply(
    views: Sequence[Tensor],
    order: Order,
    groups: int,
    done: list[Tensor],
    grad: Tensor,
    grads: _Parts,
) -> None:
    """Set the factors' gradients from their product's; takes the products back from `done`."""
    if isinstance(order, int):
        grads[order] = grad
        return
    second = views[order[1]] if isinstance(order[1], int) else done.pop()
    later = [done.pop() for _ in range(_products(order[1]) - 1)][::-1]
    first = views[order[0]] if isinstance(order[0], int) else done.pop()
    of_first, of_second = compose_backward(first, second, grad, groups)
    _unmultiply(views, order[0], groups, done, of_first, grads)
    _unmultiply(views, order[1], groups, later, of_second, grads)


def _products(order: Order) -> int:
    return 0 if isinstance(order, int) else 1 + sum(map(_products, order))


def _carry(
    views: Sequence[Tensor], biases: Sequence[Tensor | None], groups: int
) -> tuple[_Parts, _Parts]:
    """The chain's bias [out] after each factor, and what each factor does to a bias.

    That is the sum of its taps, [groups, out / groups, in / groups]; None where no bias comes in.
    """
    carried, matrices = [biases[0]], cast("_Parts", [None])
    for view, bias in zip(views[1:], biases[1:], strict=True):
        before = carried[-1]
        if before is None:
            matrices.append(None)
        else:
            several = view.dim() > 2 and prod(view.shape[1:-1]) > 1
            summed = view.flatten(1, -2).sum(1) if several else view
            matrix = summed.reshape(groups, -1, view.shape[-1])
            column = before.reshape(groups, -1, 1)
            own = None if bias is None else bias.reshape(groups, -1, 1)
            through = matrix @ column if own is None else torch.baddbmm(own, matrix, column)
            bias = through.reshape(-1)
            matrices.append(matrix)
        carried.append(bias)
    return carried, matrices


def _uncarry(
    views: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    carried: Sequence[Tensor | None],
    matrices: Sequence[Tensor | None],
    grad: Tensor,
    grads: _Parts,
) -> None:
    """Set the biases' gradients from the chain's bias's; add what the factors get by it."""
    for index in range(len(views) - 1, -1, -1):
        if biases[index] is not None:
            grads[len(views) + index] = grad
        matrix = matrices[index]
        if matrix is None:
            return
        view, before = views[index], cast("Tensor", carried[index - 1])
        column, groups = grad.reshape(len(matrix), -1, 1), len(matrix)
        grads[index] = _plus_outer(grads[index], column, before.reshape(groups, 1, -1), view)
        grad = (matrix.mT @ column).reshape(-1)


def _plus_outer(so_far: Tensor | None, column: Tensor, row: Tensor, like: Tensor) -> Tensor:
    """Add column times row to every tap, in place where nobody differentiates it: it is large."""
    groups, between = len(column), [1] * (like.dim() - 2)
    column = column.reshape(groups, -1, *between, 1)
    row = row.reshape(groups, 1, *between, -1)
    if so_far is None:
        return (column * row).flatten(0, 1).expand_as(like).contiguous()
    grouped = so_far.reshape(groups, -1, *so_far.shape[1:])
    add = grouped.addcmul if torch.is_grad_enabled() else grouped.addcmul_
    return add(column, row).flatten(0, 1)


def float32(like: Tensor) -> AbstractContextManager[object]:
    """Keep autocast out of a product; not every device has it."""
    kind = like.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
