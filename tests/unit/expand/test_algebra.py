from itertools import product

import pytest
import torch

from expand.algebra import compose, compose_backward, regroup, taps, weight
from expand.folding import fold, fold_once

KERNELS = [
    ((), ()), ((1,), (3,)), ((3,), (2,)), ((1, 1), (3, 3)), ((3, 3), (1, 1)),
    ((3, 3), (3, 3)), ((1, 3), (3, 1)), ((2, 3), (3, 2)), ((3, 1, 2), (1, 2, 2)),
]  # fmt: skip


def composed_by_summation(first: torch.Tensor, second: torch.Tensor, groups: int) -> torch.Tensor:
    """Sum over every pair of taps and every inner channel, one scalar at a time."""
    mid, inputs, *k1 = first.shape
    outputs, _, *k2 = second.shape
    result = torch.zeros(outputs, inputs, *(a + b - 1 for a, b in zip(k1, k2, strict=True)),
                         dtype=first.dtype)  # fmt: skip
    for o, i in product(range(outputs), range(inputs)):
        group = o // (outputs // groups)
        for p in range(mid // groups):
            for u, v in product(product(*map(range, k1)), product(*map(range, k2))):
                tap = tuple(a + b for a, b in zip(u, v, strict=True))
                result[(o, i, *tap)] += (
                    second[(o, p, *v)] * first[(group * mid // groups + p, i, *u)]
                )
    return result


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernels", KERNELS)
def test_compose_equals_direct_summation(kernels, groups):
    if groups > 1 and not kernels[0]:
        kernels = ((1,), (1,))
    torch.manual_seed(0)
    first = torch.randn(4, 3, *kernels[0], dtype=torch.float64)
    second = torch.randn(6, 4 // groups, *kernels[1], dtype=torch.float64)
    expected = composed_by_summation(first, second, groups)
    composed = weight(compose(taps(first), taps(second), groups))
    assert (composed - expected).abs().max() < 1e-12


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernels", KERNELS)
def test_the_gradients_of_compose_are_those_of_autograd(kernels, groups):
    torch.manual_seed(0)
    first = torch.randn(4, *kernels[0], 3, dtype=torch.float64, requires_grad=True)
    second = torch.randn(6, *kernels[1], 4 // groups, dtype=torch.float64, requires_grad=True)
    composed = compose(first, second, groups)
    grad = torch.randn_like(composed)
    expected = torch.autograd.grad(composed, [first, second], grad)
    for mine, autograds in zip(
        compose_backward(first, second, grad, groups), expected, strict=True
    ):
        assert (mine - autograds).abs().max() < 1e-12


@pytest.mark.parametrize("widths", [(3, 12, 32, 8), (8, 2, 2, 8), (64, 3, 50, 7), (5, 5, 5, 5)])
def test_every_order_of_folding_gives_the_same_product(widths):
    torch.manual_seed(0)
    kernels = [(1, 1), (3, 3), (1, 1)]
    weights = [
        torch.randn(o, i, *k, dtype=torch.float64)
        for i, o, k in zip(widths[:-1], widths[1:], kernels, strict=True)
    ]
    a, b, c = map(taps, weights)
    left, right = compose(compose(a, b), c), compose(a, compose(b, c))
    folded, bias = fold(weights, [None] * 3)
    assert bias is None
    assert (folded - weight(left)).abs().max() < 1e-11
    assert (folded - weight(right)).abs().max() < 1e-11


def test_pointwise_chain_of_channels_last_factors_folds_to_channels_last():
    weights = [torch.randn(12, 3, 1, 1), torch.randn(32, 12, 3, 3), torch.randn(8, 32, 1, 1)]
    weights[1] = weights[1].contiguous(memory_format=torch.channels_last)
    folded, _ = fold(weights, [None] * 3)
    assert folded.is_contiguous(memory_format=torch.channels_last)


def test_biases_are_carried_through_later_kernels():
    weights = [torch.full((2, 1, 1, 1), 1.0), torch.full((3, 2, 3, 3), 2.0), torch.ones(1, 3, 1, 1)]
    biases = [torch.tensor([1.0, 10.0]), torch.tensor([0.0, 1.0, 2.0]), torch.tensor([5.0])]
    # 9 taps x 2.0 x (1 + 10) = 198 in each of three channels, + 0, 1, 2; their sum, + 5.
    assert fold(weights, biases)[1].tolist() == [3 * 198 + 3 + 5]


ORDERS = [((0, 1), (2, 3)), (((0, 1), 2), 3), (0, (1, (2, 3))), ((0, (1, 2)), 3), (0, ((1, 2), 3))]
BIASED = [(True,) * 4, (False,) * 4, (False, True, False, True), (False, False, False, True)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("biased", BIASED)
@pytest.mark.parametrize("order", ORDERS)
def test_one_node_folds_as_the_small_operations_do(order, biased, groups):
    """The same values, gradients and second derivatives, in every order and for any biases."""
    torch.manual_seed(0)
    widths, kernels = [4, 6, 2, 8, 4], [(3, 3), (1, 1), (3, 1), (1, 3)]
    options = {"dtype": torch.float64, "requires_grad": True}
    weights = [torch.randn(o, i // groups, *k, **options)
               for i, o, k in zip(widths[:-1], widths[1:], kernels, strict=True)]  # fmt: skip
    biases = [torch.randn(o, **options) if has else None
              for o, has in zip(widths[1:], biased, strict=True)]  # fmt: skip
    inputs = [*weights, *(b for b in biases if b is not None)]
    results = []
    for folded in (
        fold(weights, biases, groups=groups, order=order),
        fold_once(weights, biases, groups=groups, order=order),
    ):
        loss = sum(each.pow(3).sum() for each in folded if each is not None)
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), inputs)
        results.append([*(each for each in folded if each is not None), *first, *second])
    for plain, once in zip(*results, strict=True):
        assert (plain - once).abs().max() <= 1e-11 * plain.abs().max()


def test_regroup_keeps_the_function():
    torch.manual_seed(0)
    weight = torch.randn(12, 1, 3, 3, dtype=torch.float64)
    x = torch.randn(2, 12, 8, 8, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, weight, groups=12)
    fewer = regroup(weight, 12, into=3)
    assert fewer.shape == (12, 4, 3, 3)
    assert (torch.nn.functional.conv2d(x, fewer, groups=3) - expected).abs().max() < 1e-12
