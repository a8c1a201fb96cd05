"""Python objects as a recipe: each is a component, `use: object:<class>`, that returns a copy."""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from types import FunctionType
from typing import Any, Literal

import torch
from torch import nn

from kdx.data import from_datasets
from kdx.data.digests import DIGITS
from kdx.data.from_torch import Kind
from kdx.recipe import Component
from kdx.recipe.kinds import lack
from kdx.recipe.stages import LossTerm
from kdx.training import schedules
from kdx.util.copies import copied

LONGEST = 1000  # characters of an argument in recipe.yaml
IN_DATA = (
    "batch_size", "workers", "validation", "limit", "mixup", "cutmix", "repeats", "sampling",
)  # fmt: skip


def recipe_of_objects(
    *,
    student: nn.Module,
    train: Any,
    test: Any,
    teacher: nn.Module | str | Mapping[str, Any] | None = None,
    memo: Mapping[str, Any] | Literal[False] | None = None,
    losses: Any = None,
    transforms: Any = (),
    optimizer: Any = None,
    schedule: Any = None,
    task: Kind = "classification",
    num_classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **settings: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the recipe, for `kdx.recipe.loading.read`, and the settings that are keys of one.

    Arguments as of `kdx.distill`. ValueError for an object that is not what its keyword says, and
    for a teacher without losses.
    """
    about = {"task": task, "num_classes": num_classes, "mean": mean, "std": std}
    opened = cache(partial(from_datasets, train, test, **about))
    data = _component("dataset", train, "train", lambda **_: opened())
    given: dict[str, Any] = {
        "name": f"python/{_name(student).lower()}",
        "data": {"use": data, **{key: settings.pop(key) for key in IN_DATA if key in settings}},
        "student": _part("network", student, "student"),
    }
    listed = transforms if isinstance(transforms, Sequence) else [transforms]
    given["student"]["transforms"] = [
        _part("transform", each, f"transforms[{index}]") for index, each in enumerate(listed)
    ]
    if teacher is not None:
        memos = {} if memo is None else {"memo": memo}
        if isinstance(teacher, Mapping) and "use" not in teacher:
            given["teachers"] = {
                name: _teacher(each, f"teachers.{name}")
                | (memos if isinstance(each, nn.Module) else {})
                for name, each in teacher.items()
            }
        else:
            given["teacher"] = _teacher(teacher, "teacher") | memos
        if losses is None:
            raise ValueError(
                "losses: missing: with a teacher, say what is learned from it: "
                "losses=[(0.1, kdx.losses.CrossEntropy()), (0.9, kdx.losses.KD(temperature=4))]"
            )
    elif memo:
        raise ValueError(f"memo: {memo} has no teacher whose outputs to store: pass `teacher`")
    if losses is not None:
        several = losses if isinstance(losses, Mapping | list | tuple) else [losses]
        named = several.items() if isinstance(several, Mapping) else (("", one) for one in several)
        one = teacher if isinstance(teacher, nn.Module) else None
        given["losses"] = [_loss(*each, f"losses[{n}]", one) for n, each in enumerate(named)]
    if optimizer is not None:
        given["optimizer"] = _made("optimizer", optimizer, vars(torch.optim))
    if schedule is not None:
        given["schedule"] = _made("schedule", schedule, schedules.TABLE)
    return given, settings


def _teacher(given: Any, place: str) -> dict[str, Any]:
    """Return the section of a teacher: of a module, or of what a recipe names, such as "ema"."""
    if isinstance(given, str):
        return {"use": given}
    return dict(given) if isinstance(given, Mapping) else _part("network", given, place)


def _loss(name: str, entry: Any, place: str, teacher: nn.Module | None) -> dict[str, Any]:
    """Return the section of a loss: an object, or a mapping as in a recipe, or (weight, it)."""
    weighted = isinstance(entry, tuple) and len(entry) == 2
    loss = entry[1] if weighted else entry
    section = dict(loss) if isinstance(loss, Mapping) else _part("loss", loss, place, teacher)
    return section | ({"name": name} if name else {}) | ({"weight": entry[0]} if weighted else {})


def _made(kind: str, given: Any, known: Mapping[str, Any]) -> Any:
    """Return a mapping as it is; a class, function or partial of it by its name in `known`."""
    if isinstance(given, Mapping):
        return given
    made = given if isinstance(given, partial) else partial(given) if callable(given) else None
    if made is None or (kind == "optimizer" and lack(made.func, kind)):
        raise ValueError(
            f"{kind}: {_name(given)} is not an optimizer's class or a schedule: pass a mapping, "
            "{'use': 'SGD', 'lr': 0.1}, or functools.partial(torch.optim.SGD, lr=0.1); kdx builds "
            "the optimizer for the parameters that are trained"
        )
    if name := next((name for name, each in known.items() if each is made.func), None):
        return {"use": name, **made.keywords}
    if kind == "schedule" and not isinstance(made.func, type):
        return _part(kind, given, kind)

    def factory(params: Any = None, **_: Any) -> Any:
        return made(params) if kind == "optimizer" else made()

    return {"use": _component(kind, made.func, kind, factory, made.keywords)}


def _part(kind: str, value: Any, place: str, teacher: nn.Module | None = None) -> dict[str, Any]:
    """Return the section of an object, which is copied whenever it is built.

    What it has of the `teacher` is not copied: it gets that of the run's teacher. But not what is a
    submodule, which is trained with it.
    """
    if lacking := lack(type(value), kind):
        of_images = type(value).__module__.startswith("torchvision.")
        hint = ". What transforms images belongs in the dataset" if of_images else ""
        raise ValueError(f"{place}: {_name(value)} is not a {kind}: {lacking}{hint}")

    def factory(teacher_network: nn.Module | None = None, **_: Any) -> Any:
        memo: dict[int, Any] = {}
        if teacher is not None and teacher_network is not None:
            own = {id(each) for each in value.modules()} if isinstance(value, nn.Module) else set()
            taught = dict(teacher_network.named_modules())
            named = teacher.named_modules()
            memo = {id(m): taught[path] for path, m in named if path in taught and id(m) not in own}
        plain = not isinstance(value, nn.Module)
        made = copy.deepcopy(value, memo) if plain else copied(value, memo)
        return made.cpu() if isinstance(made, nn.Module) else made

    shown = {} if kind == "network" else getattr(value, "__dict__", {})
    return {"use": _component(kind, value, place, factory, shown)}


def _component(kind: str, value: Any, place: str, factory: Any, shown: Any = ()) -> Component:
    """Return a component; its arguments are the public ones of `shown` that a recipe can hold.

    Of a long one that is a digest. A loss's own `weight`, for example, becomes `weight_`: the other
    is a key of the recipe.
    """
    arguments: dict[str, Any] = {}
    keys = LossTerm.model_fields if kind == "loss" else ()
    for attribute, each in dict(shown).items():
        name = f"{attribute}_" if attribute in keys else attribute
        if not name.startswith("_") and name not in ("training", "use"):
            with suppress(TypeError, ValueError):  # of json, for what a recipe cannot hold
                text = json.dumps(each)
                digest = f"sha256 {sha256(text.encode()).hexdigest()[:DIGITS]}"
                arguments[name] = json.loads(text) if len(text) <= LONGEST else digest
    return Component(kind, f"object:{_name(value)}", arguments, factory, "kdx.distill", place)


def _name(value: Any) -> str:
    """Return the name of an object's class, or of a class or function, as an identifier."""
    named = value if isinstance(value, type | FunctionType) else type(value)
    return re.sub(r"\W+", "_", named.__name__, flags=re.ASCII).strip("_") or "unnamed"
