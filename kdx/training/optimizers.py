"""Build a recipe's optimizer."""

import inspect
from collections.abc import Sequence

import torch
from torch import nn

from kdx.checkpoints.packing import pack
from kdx.recipe import Component
from kdx.util.errors import reason

_WAYS = frozenset({"fused", "foreach", "differentiable"})


def build_optimizer(
    component: Component, parameters: Sequence[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimizer, in its fastest implementation (benchmarks/LOG.md).

    SGD updates all parameters at once (`foreach`); others are fused if torch can. A recipe that
    sets `fused`, `foreach` or `differentiable` overrides this.
    """
    known = inspect.signature(component.factory).parameters
    way: dict[str, bool] = {}
    if not _WAYS & set(component.arguments):
        if component.factory is torch.optim.SGD:
            way = {"foreach": True}
        elif "fused" in known and all(map(_fusable, parameters)):
            way = {"fused": True}
    return component.build(params=list(parameters), **way)


def rehearse(component: Component, parameters: Sequence[nn.Parameter]) -> set[str]:
    """Build the optimizer for `parameters`, and take a step with it on a small tensor.

    Returns the names of its state of a parameter. Raises RecipeError if torch refuses an argument,
    which for some fails only in the first step, or if a checkpoint cannot hold the state.
    """
    build_optimizer(component, parameters)
    small = nn.Parameter(torch.zeros(2, 2))
    small.grad = torch.ones(2, 2)
    optimizer = build_optimizer(component, [small])
    try:
        optimizer.step()
    except Exception as error:  # torch's, or a plug-in's
        raise component.refusal(f"its first step fails: {reason(error)}") from error
    try:
        pack(optimizer.state_dict())
    except ValueError as error:
        raise component.refusal(str(error)) from error
    return set(optimizer.state[small])


def _fusable(parameter: nn.Parameter) -> bool:
    """Whether a fused kernel, which ignores strides, may update the parameter."""
    dense = torch.empty_like(parameter).stride() == parameter.stride()
    return dense and parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
