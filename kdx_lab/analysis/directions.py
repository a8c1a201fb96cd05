"""Moving a network along random directions in weight space.

Li, Xu, Taylor, Studer & Goldstein, "Visualizing the Loss Landscape of Neural Nets" (2018).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import nan

import torch
from torch import Tensor, nn

__all__ = ["directions", "filter_normalised", "half_width", "moved"]


def directions(network: nn.Module, count: int, *, seed: int) -> list[list[Tensor]]:
    """Return `count` random directions, filter-normalised: a tensor for each parameter.

    Parameters of one dimension (biases, BatchNorm) do not move. Before normalisation a direction
    depends only on the seed and the parameters' shapes.
    """
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            filter_normalised(torch.randn(p.shape, generator=generator).to(p), p.detach())
            if p.dim() > 1
            else torch.zeros_like(p)
            for p in network.parameters()
        ]
        for _ in range(count)
    ]


def filter_normalised(direction: Tensor, weight: Tensor) -> Tensor:
    """Return `direction` with the norm of each filter of `weight`; both [filters, ...]."""
    of_weight, own = (tensor.flatten(1).norm(dim=1) for tensor in (weight, direction))
    scale = of_weight / own.clamp_min(torch.finfo(own.dtype).tiny)
    return direction * scale.view(-1, *[1] * (weight.dim() - 1))


@contextmanager
def moved(
    network: nn.Module, along: Sequence[Sequence[Tensor]]
) -> Iterator[Callable[[Sequence[float]], None]]:
    """Yield a function that moves the network by a step along each of the directions.

    On exit its parameters and buffers are restored exactly.
    """
    parameters, buffers = list(network.parameters()), list(network.buffers())
    here = [p.detach().clone() for p in parameters]
    kept = [b.clone() for b in buffers]

    @torch.no_grad()
    def place(at: Sequence[float]) -> None:
        for parameter, start, *ways in zip(parameters, here, *along, strict=True):
            if parameter.dim() > 1:
                steps = (far * way for far, way in zip(at, ways, strict=True))
                parameter.copy_(sum(steps, start=start))

    try:
        yield place
    finally:
        with torch.no_grad():
            for tensor, before in zip([*parameters, *buffers], [*here, *kept], strict=True):
                tensor.copy_(before)


def half_width(at: Sequence[float], losses: Sequence[float], rise: float) -> float:
    """Return the distance from 0 at which the loss has risen by `rise`: the mean of both sides.

    `at` [n] is ascending, with 0 in its middle; the loss is interpolated linearly. NaN if it does
    not rise that far on either side.
    """
    middle = len(at) // 2
    assert at[middle] == 0, "the network itself is in the middle"
    bound = losses[middle] + rise
    sides = ((at[middle:], losses[middle:]), (at[middle::-1], losses[middle::-1]))
    return sum(_crossing(*side, bound) for side in sides) / 2


def _crossing(at: Sequence[float], losses: Sequence[float], bound: float) -> float:
    """Return the first distance at which the loss reaches the bound; NaN if it never does."""
    for index in range(1, len(at)):
        before, after = losses[index - 1], losses[index]
        if after >= bound:
            share = (bound - before) / (after - before) if after < float("inf") else 0.0
            return abs(at[index - 1] + share * (at[index] - at[index - 1]))
    return nan
