"""What `use:` may name: an entry of the package's own tables, or a public name of a module.

A recipe is data, and must not be able to run whatever can be imported. A dotted name resolves
only into kdx, expand, teachers, the plug-ins allowed on the command line, and those declared by
installed packages under the entry-point group `kdx.plugins`; there, only to a name in the
module's `__all__`; and only to an object that meets the contract of its kind, which a function
shows by what it is annotated to return. In plug-ins, which were allowed by name, it need not.
"""

import importlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from kdx.recipe.wording import show, unknown

__all__ = ["allow", "allowed_modules", "resolve"]

_TABLES = {
    "network": "kdx.models.students",
    "dataset": "kdx.data.sets",
    "loss": "kdx.losses",
    "transform": None,
    "optimizer": "torch.optim",
    "schedule": "kdx.training.schedules",
}
"""The kinds of components, each with the module that holds its bare names."""

_MOVED = {"kdx.students": "kdx.models.students", "kdx.schedules": "kdx.training.schedules"}
"""Modules that recipes of kdx 0.1 name, and where they are now."""

_HOUSE = frozenset({"kdx", "expand", "teachers"})
_GROUP = "kdx.plugins"
_LONGEST = 200


def allowed_modules(plugins: Iterable[str] = ()) -> frozenset[str]:
    """Return the modules that dotted names may resolve into; so may their submodules."""
    declared = (point.value.partition(":")[0].strip() for point in entry_points(group=_GROUP))
    return _HOUSE | {*plugins, *declared}


def allow(plugins: Sequence[str]) -> None:
    """Make plug-ins in the current directory importable, last in the search order."""
    if plugins and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()


def resolve(use: str, kind: str, allowed: Iterable[str]) -> Any:
    """Return the factory that `use` names; nothing is imported from outside `allowed`.

    Raises ValueError with what is wrong, for the user.
    """
    from kdx.recipe.kinds import lack  # here, because it brings torch

    if use.startswith("object:"):
        raise ValueError(
            f"{show(use)} is a Python object, which a recipe cannot build: run the Python program "
            "that called kdx.distill() again"
        )
    package, dot, _ = use.partition(".")
    factory = _dotted(use, allowed) if dot else _bare(use, kind)
    if reason := lack(factory, kind, annotated=bool(dot) and package in _HOUSE):
        raise ValueError(f"{show(use)} is not {_a(kind)}: {reason}")
    return factory


def _bare(use: str, kind: str) -> Any:
    module = _TABLES[kind]
    if module is None:
        raise ValueError(f"{show(use)} is not {_a(kind)}: use a dotted name, as expand.ExpandNet")
    table = _optimizers() if kind == "optimizer" else _attribute(_import(module), "TABLE")
    if use not in table:
        raise ValueError(f"{show(use)} is not {_a(kind)}.{unknown(use, table)}")
    return table[use]


def _optimizers() -> Mapping[str, Any]:
    from torch import optim

    # LBFGS calls the loss itself, several times a step; SparseAdam wants sparse gradients.
    unfit = (optim.Optimizer, optim.LBFGS, optim.SparseAdam)
    classes = ((name, value) for name, value in vars(optim).items() if isinstance(value, type))
    return {
        name: value
        for name, value in classes
        if issubclass(value, optim.Optimizer) and value not in unfit
    }


def _dotted(use: str, allowed: Iterable[str]) -> Any:
    parts = use.split(".")
    if len(use) > _LONGEST or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{show(use)} is not a dotted name such as expand.ExpandNet")
    if special := [part for part in parts if part.startswith("__")]:
        raise ValueError(f"{show(use)}: {special[0]!r} is Python's own, not a public name")
    module, _, name = _at_home(use).rpartition(".")
    if not any(f"{module}.".startswith(f"{root}.") for root in allowed):
        known = ", ".join(sorted(allowed))
        message = f"{show(use)} is outside the modules that a recipe may use ({known})"
        raise ValueError(f"{message}: allow it with --plugin {module.partition('.')[0]}")
    imported = _import(module)
    public = vars(imported).get("__all__")
    if public is None:
        raise ValueError(f"{show(use)}: module {module!r} has no __all__ that makes names public")
    if name not in public:
        raise ValueError(f"{name!r} is not in __all__ of {module!r}.{unknown(name, public)}")
    return _attribute(imported, name)


def _at_home(use: str) -> str:
    """Return a dotted name as it is today."""
    for old, new in _MOVED.items():
        if use.startswith(f"{old}."):
            return new + use.removeprefix(old)
    return use


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:
        message = f"cannot import {module!r}: {type(error).__name__}: {error}"
        raise ValueError(message) from error


def _attribute(module: Any, name: str) -> Any:
    try:
        return getattr(module, name)
    except Exception as error:
        message = f"cannot read {module.__name__}.{name}: {type(error).__name__}: {error}"
        raise ValueError(message) from error


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "optimizer" else f"a {kind}"
