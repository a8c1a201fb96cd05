"""Build a recipe's optimizer."""

import inspect
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import nn

from kdx.checkpoints.packing import pack
from kdx.recipe import Component
from kdx.recipe.arguments import GROUPING
from kdx.training.groups import parameter_groups
from kdx.util.errors import reason

_WAYS = frozenset({"fused", "foreach", "differentiable"})


def build_optimizer(
    component: Component, parameters: Mapping[str, nn.Parameter], modules: Collection[str] = ()
) -> torch.optim.Optimizer:
    """Build the optimizer of an objective's parameters, in its fastest implementation.

    `modules` are the paths of the compact network, for parameter groups: see `kdx.training.groups`,
    also for errors. SGD updates all parameters at once (`foreach`); others are fused if torch can
    (benchmarks/LOG.md). A recipe that sets `fused`, `foreach` or `differentiable` overrides this.
    """
    known = inspect.signature(component.factory).parameters
    way: dict[str, bool] = {}
    given = parameter_groups(component, parameters, modules)
    options = {key: value for key, value in component.arguments.items() if key not in GROUPING}
    if not _WAYS & options.keys():
        if component.factory is torch.optim.SGD:
            way = {"foreach": True}
        elif "fused" in known and all(map(_fusable, parameters.values())):
            way = {"fused": True}
    return replace(component, arguments=options).build(params=given, **way)


def rehearse(
    component: Component, parameters: Mapping[str, nn.Parameter], modules: Collection[str] = ()
) -> set[str]:
    """Build the optimizer, as `build_optimizer`, and take a step with it on a small tensor.

    Returns the names of its state of a parameter. Raises RecipeError if torch refuses an argument,
    which for some fails only in the first step, or if a checkpoint cannot hold the state.
    """
    build_optimizer(component, parameters, modules)
    small = nn.Parameter(torch.zeros(2, 2))
    small.grad = torch.ones(2, 2)
    options = {key: value for key, value in component.arguments.items() if key not in GROUPING}
    optimizer = build_optimizer(replace(component, arguments=options), {"": small})
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
