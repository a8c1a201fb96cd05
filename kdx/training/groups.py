"""Parameter groups: which parameters an optimizer treats otherwise, by the compact network's names.

optimizer:
  use: AdamW
  lr: 0.001
  weight_decay: 0.05
  no_decay: [norm, bias]
  groups: [{match: "fc2.*", lr: 0.01}]
"""

import json
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from kdx.recipe import Component
from kdx.recipe.arguments import GROUPING, check
from kdx.util.words import listed

STUDENT = "student."  # what the names of the student's parameters begin with in an objective


def parameter_groups(
    component: Component, parameters: Mapping[str, nn.Parameter], modules: Collection[str]
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Return what an optimizer takes: the parameters, in groups if the recipe asks for any.

    `parameters` are those of an objective by name, `modules` the paths of the compact network. The
    options of `groups` hold for the parameters that they match, later ones before earlier ones and
    before `no_decay`. What a transform has put in the place of a module's weight has the weight's
    name; parameters of losses are "adaptors.<term>...", and `no_decay` leaves them alone.
    RecipeError for a group that matches nothing, and for options that the optimizer does not have.
    """
    kinds: Sequence[str] = component.arguments.get("no_decay") or ()
    groups: Sequence[Mapping[str, Any]] = component.arguments.get("groups") or ()
    if not kinds and not groups:
        return list(parameters.values())
    names = {name: compact_name(name, modules) for name in parameters}
    for index, group in enumerate(groups):
        _check(component, f"groups[{index}]", group, names.values())
    found: dict[str, dict[str, Any]] = {}
    for name, parameter in parameters.items():
        options = {"weight_decay": 0.0} if _is_of(kinds, name, parameter) else {}
        for group in groups:
            if fnmatchcase(names[name], group["match"]):
                options |= {key: value for key, value in group.items() if key != "match"}
        group = found.setdefault(json.dumps(options, sort_keys=True), {"params": [], **options})
        group["params"].append(parameter)
    return list(found.values())


def compact_name(name: str, modules: Collection[str]) -> str:
    """Return "conv1.weight" for "student.conv1.factors.0.weight", if "conv1" is of `modules`."""
    if not name.startswith(STUDENT):
        return name
    *path, last = name.removeprefix(STUDENT).split(".")
    inside = (".".join(path[:length]) for length in range(len(path), 0, -1))
    return ".".join(filter(None, (next((p for p in inside if p in modules), ""), last)))


def _is_of(kinds: Sequence[str], name: str, parameter: nn.Parameter) -> bool:
    """Return whether a parameter is a bias, or the weight of a normalisation: of one dimension."""
    if not name.startswith(STUDENT) or not kinds:
        return False
    is_bias = name.endswith("bias") or ".biases." in name
    return "bias" in kinds if is_bias else "norm" in kinds and parameter.ndim <= 1


def _check(
    component: Component, place: str, group: Mapping[str, Any], names: Collection[str]
) -> None:
    options = {key: value for key, value in group.items() if key != "match"}
    if not isinstance(group.get("match"), str) or not options:
        raise component.refusal(f"{place}: give a pattern and options, {{match: 'fc.*', lr: 0.1}}")
    wrong = [key for key in options if key in GROUPING]
    problems = check(component.factory, component.kind, {"lr": 1.0, **options})
    if text := "; ".join([*(f"{key}: not in a group" for key in wrong),
                          *(f"{key}: {problem}" for key, problem in problems)]):  # fmt: skip
        raise component.refusal(f"{place}: {text}")
    if not any(fnmatchcase(name, group["match"]) for name in names):
        known = listed(list(dict.fromkeys(names)))
        raise component.refusal(f"{place}: {group['match']!r} matches no parameter. Known: {known}")
