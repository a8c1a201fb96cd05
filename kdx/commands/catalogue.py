"""Everything that `use:` can name, with arguments and defaults, from signatures and docstrings."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from kdx.recipe.arguments import LEARNING_RATE, PROVIDED, parameters_of
from kdx.recipe.kinds import lack
from kdx.recipe.registry import allowed_modules, table

_HOUSE = {"network": ("teachers",), "transform": ("expand",)}
"""The packages of kdx that dotted names of a kind come from."""


@dataclass(frozen=True)
class Argument:
    """An argument of what `use:` names.

    `schema` is the JSON schema of its values, empty if it may be anything. `provided` arguments
    are passed by kdx; a recipe may set them but need not.
    """

    name: str
    required: bool
    default: Any
    schema: dict[str, Any]
    provided: bool


@dataclass(frozen=True)
class Entry:
    """A name for `use:`, what it is in one line, and its arguments; `open` if it takes others."""

    name: str
    line: str
    arguments: tuple[Argument, ...]
    open: bool


def catalogue(kind: str, *, plugins: Sequence[str] = ()) -> list[Entry]:
    """Return the entries of a kind of `kdx.recipe.registry.TABLES`, the built-in ones first.

    Of plug-ins, those of `plugins` and those that installed packages declare, it has the public
    classes that meet the kind's contract, and functions whose return annotation says so.
    """
    factories = dict(table(kind))
    installed = sorted(allowed_modules(plugins) - {"kdx", "expand", "teachers"})
    for name in (*_HOUSE.get(kind, ()), *installed):
        for module in _modules(name):
            for public in vars(module).get("__all__", ()):
                factory = getattr(module, public, None)
                if not inspect.ismodule(factory) and not lack(factory, kind, annotated=True):
                    factories[f"{module.__name__}.{public}"] = factory
    return [_entry(name, factory, kind) for name, factory in factories.items()]


def _modules(name: str) -> Iterator[ModuleType]:
    """Yield a module and, of a plug-in, its submodules; one that cannot be imported is left out."""
    with suppress(Exception):  # a plug-in may raise anything
        module = importlib.import_module(name)
        yield module
        inside = getattr(module, "__path__", []) if name not in ("expand", "teachers") else []
        for found in pkgutil.iter_modules(inside, f"{name}."):
            if not found.name.rpartition(".")[2].startswith("_"):
                yield from _modules(found.name)


def _entry(name: str, factory: Any, kind: str) -> Entry:
    parameters, takes_any = parameters_of(factory)
    given = PROVIDED.get(kind, frozenset())
    # What a signature leaves to **options has its defaults, by convention, in `factory.DEFAULTS`.
    defaults = getattr(factory, "DEFAULTS", {})
    if kind == "optimizer":  # recipes must give its learning rate, whatever torch's default is
        parameters["lr"] = LEARNING_RATE
        parameters.pop("params", None)
    arguments = []
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty
        default, schema = defaults.get(key, parameter.default), _schema(parameter.annotation)
        provided = key in given and (required or key != "anchors")  # not all data have boxes
        arguments.append(Argument(key, required, default, schema, provided))
    line = inspect.cleandoc(factory.__doc__ or "").partition("\n")[0]
    return Entry(name, line, tuple(arguments), takes_any)


def _schema(annotation: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; empty if it is not a type of data, such as Tensor."""
    try:
        schema = TypeAdapter(annotation).json_schema()
    except Exception:  # whatever pydantic raises for a type that it does not know
        return {}
    return {} if "$defs" in schema else schema
