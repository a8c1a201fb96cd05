from itertools import product

import pytest
import torch

from expand.algebra import compose, fold_biases, fold_weights, regroup

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
    assert (compose(first, second, groups) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("widths", [(3, 12, 32, 8), (8, 2, 2, 8), (64, 3, 50, 7), (5, 5, 5, 5)])
def test_every_order_of_folding_gives_the_same_product(widths):
    torch.manual_seed(0)
    kernels = [(1, 1), (3, 3), (1, 1)]
    weights = [
        torch.randn(o, i, *k, dtype=torch.float64)
        for i, o, k in zip(widths[:-1], widths[1:], kernels, strict=True)
    ]
    left = compose(compose(weights[0], weights[1]), weights[2])
    right = compose(weights[0], compose(weights[1], weights[2]))
    folded = fold_weights(weights)
    assert (folded - left).abs().max() < 1e-11
    assert (folded - right).abs().max() < 1e-11


def test_pointwise_chain_of_channels_last_factors_folds_to_channels_last():
    weights = [torch.randn(12, 3, 1, 1), torch.randn(32, 12, 3, 3), torch.randn(8, 32, 1, 1)]
    weights[1] = weights[1].contiguous(memory_format=torch.channels_last)
    assert fold_weights(weights).is_contiguous(memory_format=torch.channels_last)


def test_biases_are_carried_through_later_kernels():
    weights = [torch.full((2, 1, 1, 1), 1.0), torch.full((3, 2, 3, 3), 2.0), torch.ones(1, 3, 1, 1)]
    biases = [torch.tensor([1.0, 10.0]), torch.tensor([0.0, 1.0, 2.0]), torch.tensor([5.0])]
    # 9 taps x 2.0 x (1 + 10) = 198 in each of three channels, + 0, 1, 2; their sum, + 5.
    assert fold_biases(weights, biases).tolist() == [3 * 198 + 3 + 5]


def test_regroup_keeps_the_function():
    torch.manual_seed(0)
    weight = torch.randn(12, 1, 3, 3, dtype=torch.float64)
    x = torch.randn(2, 12, 8, 8, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, weight, groups=12)
    fewer = regroup(weight, 12, into=3)
    assert fewer.shape == (12, 4, 3, 3)
    assert (torch.nn.functional.conv2d(x, fewer, groups=3) - expected).abs().max() < 1e-12
