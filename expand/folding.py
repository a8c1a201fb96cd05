"""Fold a chain into one layer's weight and bias, as a single node of the autograd graph.

A chain of three layers with biases is some thirty small operations, whose graph costs more than
its arithmetic in a compact network. Here it is one, with the backward pass written out.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import Function

from expand.algebra import Order, cheapest_order, compose, compose_backward, taps, weight

__all__ = ["Ticket", "fold", "fold_once"]


class Ticket:
    """Says whether the graph of a product has been run backwards."""

    spent = False


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
    product = _multiply(views, order, groups, [])
    return weight(product), _carry(views, biases, groups)[-1]


def fold_once(
    ticket: Ticket,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    *,
    groups: int,
    order: Order,
) -> tuple[Tensor, Tensor | None]:
    """Return what `fold` does, as one node of the graph; its backward pass spends the ticket."""
    last = None
    if not any(bias is not None for bias in biases[:-1]):  # then there is nothing to carry
        biases, last = [None] * len(biases), biases[-1]
    folded, bias, *_ = _Fold.apply(ticket, groups, order, len(weights), *weights, *biases)
    return cast("Tensor", folded), last if bias is None else cast("Tensor", bias)


class _Fold(Function):
    """The inner products of the order are outputs too, so that the backward pass has them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(ticket: Ticket, groups: int, order: Order, count: int, *tensors: Tensor) -> Any:
        views, biases = [taps(each) for each in tensors[:count]], tensors[count:]
        inner: list[Tensor] = []
        with _float32(views[0]):
            product = _multiply(views, order, groups, inner)
            bias = _carry(views, biases, groups)[-1]
        return weight(product), bias, *inner[:-1]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.ticket, ctx.groups, ctx.order, ctx.count = inputs[:4]
        ctx.inner = len(output) - 2
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[4:], *output[2:])

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor | None) -> Any:
        ctx.ticket.spent = True
        grad, of_bias = outputs[:2]
        count, groups = ctx.count, ctx.groups
        saved = ctx.saved_tensors
        views = [taps(each) for each in saved[:count]]
        biases, inner = saved[count : 2 * count], list(saved[2 * count :])
        grads: list[Tensor | None] = [None] * (2 * count)
        with _float32(views[0]):
            if grad is not None:
                if torch.is_grad_enabled():  # to be differentiated again: with products of its own
                    inner = []
                    _multiply(views, ctx.order, groups, inner)
                    inner.pop()
                _unmultiply(views, ctx.order, groups, inner, taps(grad), grads)
            if of_bias is not None:
                _uncarry(views, biases, groups, of_bias, grads)
        of_weights = [None if g is None else weight(g) for g in grads[:count]]
        return None, None, None, None, *of_weights, *grads[count:]


def _multiply(views: Sequence[Tensor], order: Order, groups: int, done: list[Tensor]) -> Tensor:
    """Multiply in order; append every product to `done`, inner ones before outer ones."""
    if isinstance(order, int):
        return views[order]
    first, second = (_multiply(views, each, groups, done) for each in order)
    done.append(compose(first, second, groups))
    return done[-1]


def _unmultiply(
    views: Sequence[Tensor],
    order: Order,
    groups: int,
    done: list[Tensor],
    grad: Tensor,
    grads: list[Tensor | None],
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
) -> list[Tensor | None]:
    """The chain's bias after each factor."""
    carried = [biases[0]]
    for view, bias in zip(views[1:], biases[1:], strict=True):
        total = carried[-1]
        if total is not None:
            through = (_matrix(view, groups) @ total.reshape(groups, -1, 1)).reshape(-1)
            bias = through if bias is None else through + bias
        carried.append(bias)
    return carried


def _uncarry(
    views: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    groups: int,
    grad: Tensor,
    grads: list[Tensor | None],
) -> None:
    """Set the biases' gradients from the chain's bias's; add what the factors get by it."""
    carried = _carry(views, biases, groups)
    for index in range(len(views) - 1, -1, -1):
        if biases[index] is not None:
            grads[len(views) + index] = grad
        before = carried[index - 1] if index else None
        if before is None:
            return
        view = views[index]
        column = grad.reshape(groups, -1, 1)
        outer = (column * before.reshape(groups, 1, -1)).reshape(view.shape[0], -1)
        outer = outer.reshape(view.shape[0], *[1] * (view.dim() - 2), view.shape[-1])
        so_far = grads[index]
        grads[index] = outer.expand_as(view) if so_far is None else so_far + outer
        grad = (_matrix(view, groups).mT @ column).reshape(-1)


def _matrix(view: Tensor, groups: int) -> Tensor:
    """What a factor does to a bias: its taps' sum, [groups, out / groups, in / groups]."""
    summed = view.flatten(1, -2).sum(1) if view.dim() > 2 else view
    return summed.reshape(groups, -1, view.shape[-1])


def _float32(like: Tensor) -> AbstractContextManager[object]:
    """Keep autocast out of a product; not every device has it."""
    kind = like.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
