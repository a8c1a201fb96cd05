"""Build a recipe's optimizer."""

import inspect
from collections.abc import Sequence

import torch
from torch import nn

from kdx.recipe import Component

__all__ = ["build_optimizer"]

_WAYS = frozenset({"fused", "foreach", "differentiable"})


def build_optimizer(
    component: Component, parameters: Sequence[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimizer, in its fused implementation where torch has one for these parameters.

    A recipe that sets `fused`, `foreach` or `differentiable` itself has its way.
    """
    fusable = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    known = inspect.signature(component.factory).parameters
    if fusable and "fused" in known and not _WAYS & set(component.arguments):
        return component.build(params=list(parameters), fused=True)
    return component.build(params=list(parameters))
