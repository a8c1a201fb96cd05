"""Parameter groups: which parameters have a learning rate or a weight decay of their own.

Names are those of the compact student: a parameter that a transform has put inside of a layer
counts as the layer's own, the factor `conv1.factors.0.weight` as `conv1.weight`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from kdx.recipe.optimizing import Optimizer
from kdx.recipe.wording import unknown
from kdx.training.objective import Objective

NORM, BIAS = "norm", "bias"
_NORMS = (
    nn.modules.batchnorm._NormBase,  # and InstanceNorm
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


@dataclass
class Group:
    """Parameters, by their names in the compact student, with the same settings.

    `values` replace the optimizer's; its learning rate is multiplied by `scale`, unless one of
    the values is `lr`. `folded`: they are factors of such parameters.
    """

    scale: float = 1.0
    values: dict[str, float] = field(default_factory=dict)
    parameters: list[nn.Parameter] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    folded: bool = False


def group(
    section: Optimizer, objective: Objective, compact: nn.Module, folded: Collection[str] = ()
) -> list[Group]:
    """Divide the trained parameters; the groups are in the order of their first parameters.

    Each has the parameters for which the section says the same; those of the losses are one of
    their own, the last, with the optimizer's values. `compact` is the student before its
    transforms; the factors of its `folded` parameters are groups of their own. ValueError if the
    network has no layers to tell apart.
    """
    known = dict(compact.named_parameters(remove_duplicate=False))
    layers = layers_of(compact) if section.layer_decay else {}
    last = max(layers.values(), default=0)
    norms = norm_parameters(compact) | norm_parameters(objective.student)
    found: dict[Any, Group] = {}
    for own, parameter in _trained(objective.student):
        name = compact_name(own, known)
        free = any(_is(name, kind, norms) for kind in section.no_decay)
        free = free or (own in norms and NORM in section.no_decay)  # a norm inside of a layer
        matching = [each for each in section.groups if fnmatchcase(name, each.match)]
        layer = layers.get(name, last)
        inside = name != own and name in folded
        key = free, tuple(map(section.groups.index, matching)), layer, inside
        if key not in found:
            values = {"weight_decay": 0.0} if free else {}
            for each in matching:
                values |= each.model_dump(exclude={"match"}, exclude_none=True)
            scale = (section.layer_decay or 1.0) ** (last - layer)
            scale *= section.factor_lr if inside else 1.0
            found[key] = Group(1.0 if "lr" in values else scale, values, folded=inside)
        found[key].parameters.append(parameter)
        found[key].names.append(name)
    seen = {id(p) for each in found.values() for p in each.parameters}
    rest = [p for _, p in _trained(objective.adaptors) if id(p) not in seen]
    return [*found.values(), *([Group(parameters=rest)] if rest else [])]


def problems(
    section: Optimizer, student: nn.Module, compact: nn.Module
) -> Iterator[tuple[str, str]]:
    """Yield the key of each pattern that matches no trained parameter, and a message."""
    known = dict(compact.named_parameters(remove_duplicate=False))
    names = {compact_name(name, known) for name, _ in _trained(student)}
    given = {
        f"no_decay[{index}]": each
        for index, each in enumerate(section.no_decay)
        if each not in (NORM, BIAS)
    }
    given |= {f"groups[{index}].match": each.match for index, each in enumerate(section.groups)}
    for key, pattern in given.items():
        if not any(fnmatchcase(name, pattern) for name in names):
            kinds = {NORM, BIAS} if key.startswith("no_decay") else set()
            near = unknown(pattern, names | kinds)
            yield key, f"{pattern!r} matches no trained parameter of the student.{near}"


def compact_name(name: str, known: Collection[str]) -> str:
    """Return the name, among `known` ones, of the parameter that one stands for; else its own.

    That is the innermost layer around it with a parameter of the same last name.
    """
    *path, last = name.split(".")
    if name in known:
        return name
    outer = (".".join((*path[:end], last)) for end in range(len(path) - 1, -1, -1))
    return next((each for each in outer if each in known), name)


def norm_parameters(network: nn.Module) -> set[str]:
    """Return the names of normalisation layers' parameters: torch's, and others by their class.

    Those of other classes are one-dimensional, in a module whose class has "Norm" in its name.
    """
    found = set()
    for path, module in network.named_modules():
        own = dict(module.named_parameters(path, recurse=False))
        named = "Norm" in type(module).__name__ and all(p.dim() == 1 for p in own.values())
        found |= own.keys() if named or isinstance(module, _NORMS) else set()
    return found


def layers_of(network: nn.Module) -> Mapping[str, int]:
    """Return the number of the layer of each parameter, from 0 at the input.

    As timm divides its networks (blocks, by `group_matcher`); of others, the modules in the order
    of their definition, those in an nn.Sequential or nn.ModuleList each; normalisation belongs to
    the module before it, and what holds most parameters of all, such as a backbone, is divided into
    its own modules. ValueError if that is one layer.
    """
    if matcher := getattr(network, "group_matcher", None):
        from timm.models import group_parameters

        made: Any = group_parameters(network, matcher(coarse=False), reverse=True)
        layers: dict[str, int] = dict(made)
    else:
        most = sum(p.numel() for p in network.parameters()) // 2
        modules, norms = list(_blocks(network, most)), norm_parameters(network)
        found, number = {}, -1
        for path, module in modules:
            names = [name for name, _ in module.named_parameters(path)]
            number += number < 0 or not norms.issuperset(names)
            found |= dict.fromkeys(names, number)
        layers, before = {}, number  # a module's own parameters are of the layer after them
        for name in reversed([name for name, _ in network.named_parameters()]):
            layers[name] = before = found.get(name, before)
    if len(set(layers.values())) < 2:
        raise ValueError(f"{type(network).__name__} has one layer only: remove layer_decay")
    return layers


def _blocks(network: nn.Module, most: int, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the paths and modules that are layers, of at most so many parameters if they can be."""
    named = network.named_children()
    children = [(f"{prefix}{name}", child) for name, child in named if _has_parameters(child)]
    for path, child in children:
        large = len(children) == 1 or sum(p.numel() for p in child.parameters()) > most
        inner = large and any(map(_has_parameters, child.children()))
        if inner or isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _blocks(child, most, f"{path}.")
        else:
            yield path, child


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _is(name: str, kind: str, norms: Collection[str]) -> bool:
    if kind == NORM:
        return name in norms
    return name.endswith(BIAS) if kind == BIAS else fnmatchcase(name, kind)


def _trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)
