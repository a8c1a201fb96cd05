"""Build a recipe's optimizer."""

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdx.checkpoints.packing import pack
from kdx.recipe import Component, Problem, RecipeError
from kdx.recipe.optimizing import Optimizer
from kdx.training.groups import group, problems
from kdx.training.objective import Objective
from kdx.util.errors import reason

_WAYS = frozenset({"fused", "foreach", "differentiable"})


def stage_optimizer(
    section: Optimizer, objective: Objective, compact: nn.Module, folded: Collection[str] = ()
) -> tuple[torch.optim.Optimizer, dict[str, float]]:
    """Build the optimizer of a stage's trained parameters, with the groups of its section.

    `compact` is the student before its transforms, `folded` are the names of the parameters there
    that transforms compute. Also returns the decays of these for `product_decay`, by name, if the
    section has `decay: product`. Raises RecipeError with all patterns that match nothing, and for
    groups that the optimizer or the network cannot have.
    """
    part, product = section.component, section.decay == "product"
    if not section.has_groups:
        return build_optimizer(part, [p for p in objective.parameters() if p.requires_grad]), {}
    if found := list(problems(section, objective.student, compact)):
        where = part.where
        raise RecipeError([Problem(part.place, f"{where}.{key}", text) for key, text in found])
    try:
        apart = folded if product or section.factor_lr != 1 else ()
        groups = group(section, objective, compact, apart)
    except ValueError as error:
        raise part.refusal(str(error)) from error
    optimizer = build_optimizer(part, [{"params": each.parameters} for each in groups])
    decays: dict[str, float] = {}
    for made, wanted in zip(optimizer.param_groups, groups, strict=True):
        if lacking := wanted.values.keys() - made.keys():
            raise part.refusal(f"it has no {' and no '.join(sorted(lacking))} to set in groups")
        if wanted.scale != 1:
            made["lr"] *= wanted.scale
        made.update(wanted.values)
        if product and wanted.folded:
            decays |= dict.fromkeys(wanted.names, float(made.get("weight_decay", 0)))
            made["weight_decay"] = 0.0
    if product and not any(decays.values()):
        needs = "a weight_decay and a student that is expanded, by expand.ExpandNet"
        raise part.refusal(f"decay: 'product' needs {needs}")
    return optimizer, decays


def product_decay(decays: Mapping[str, float], products: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of decay / 2 * ||W||^2 over the products W, by name: a scalar.

    Its gradient on W is decay * W: what SGD's weight decay adds to that of a layer of its own.
    """
    terms = [each / 2 * products[name].float().square().sum() for name, each in decays.items()]
    return torch.stack(terms).sum()


def build_optimizer(
    component: Component,
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
) -> torch.optim.Optimizer:
    """Build the optimizer, in its fastest implementation (benchmarks/LOG.md).

    `parameters` may be torch's groups of them.

    SGD updates all parameters at once (`foreach`); others are fused if torch can. A recipe that
    sets `fused`, `foreach` or `differentiable` overrides this.
    """
    known = inspect.signature(component.factory).parameters
    way: dict[str, bool] = {}
    if not _WAYS & set(component.arguments):
        if component.factory is torch.optim.SGD:
            way = {"foreach": True}
        elif "fused" in known and all(map(_fusable, _flat(parameters))):
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


def load_optimizer(
    optimizer: torch.optim.Optimizer, state: Mapping[int, Any], groups: Sequence[dict[str, Any]]
) -> None:
    """Load an optimizer's state; ValueError if its groups have other numbers of parameters.

    The state gets the strides of the parameters, which fused kernels rely on.
    """
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _flat(given: Sequence[nn.Parameter] | Sequence[dict[str, Any]]) -> Iterator[nn.Parameter]:
    for each in given:
        yield from each["params"] if isinstance(each, dict) else [each]


def _fusable(parameter: nn.Parameter) -> bool:
    """Whether a fused kernel, which ignores strides, may update the parameter."""
    dense = torch.empty_like(parameter).stride() == parameter.stride()
    return dense and parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
