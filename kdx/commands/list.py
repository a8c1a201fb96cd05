"""List what a recipe can name in `use:`, with arguments and defaults.

kdx list [networks|datasets|augmentations|losses|transforms|optimizers|schedules|
          trackers|averages] [--plugin MODULE]

Of plug-ins it lists public classes, and functions with a return annotation.
"""

import argparse
import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter
from rich.console import Group
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from kdx.commands.shared import add_plugins, terminal
from kdx.recipe import allow
from kdx.recipe.arguments import LEARNING_RATE, PROVIDED, parameters_of
from kdx.recipe.optimizing import AVERAGES, Average
from kdx.recipe.registry import HOUSE, PACKAGES, TABLES, allowed_modules, table, timm_optimizers
from kdx.util.printing import say

KINDS = {"losses" if kind == "loss" else f"{kind}s": kind for kind in (*TABLES, "average")}


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx list`."""
    add = parser.add_argument
    add(
        "what",
        nargs="?",
        choices=KINDS,
        metavar="KIND",
        help="what to list; without it, the names of all",
    )
    add("--markdown", action="store_true", help="print a Markdown table of the arguments")
    add_plugins(parser)


def run(args: argparse.Namespace) -> None:
    """Print the entries for the width of the terminal, or as Markdown."""
    allow(args.plugins)
    for name in args.plugins:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # a plug-in may raise anything
            raise ValueError(
                f"--plugin {name}: cannot be imported: {type(error).__name__}: {error}"
            ) from error
    if args.what is None:
        for what, kind in KINDS.items():
            names = ", ".join(entry.name for entry in catalogue(kind, plugins=args.plugins))
            say(terminal(), f"{what}: {names}")
        return
    entries = catalogue(KINDS[args.what], plugins=args.plugins)
    if args.markdown:
        print(f"| {KINDS[args.what]} | argument | default | values |\n| --- | --- | --- | --- |")
        for entry in entries:
            for name, default, values in rows(entry):
                default = f"`{default}` " if default else ""
                print(f"| `{entry.name}` | `{name}` | {default}| {values} |")
        return
    console = terminal()
    for entry in entries:
        columns = (Column(style=style, overflow="fold") for style in ("cyan", "none", "dim"))
        grid = Table.grid(*columns, padding=(0, 2, 0, 0))
        for name, default, values in rows(entry):
            grid.add_row(Text(name), Text(default or "required"), Text(values))
        if entry.open:
            grid.add_row("...", "", "any other keyword")
        say(console, entry.name, style="bold")
        console.print(Padding(Group(Text(entry.line), grid), (0, 0, 0, 4), expand=False))


def rows(entry: Entry) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the default ("" if it is required) and the values of each argument."""
    for each in entry.arguments:
        if not each.provided:
            yield each.name, "" if each.required else _yaml(each.default), _type(each.schema)


def catalogue(kind: str, *, plugins: Sequence[str] = ()) -> list[Entry]:
    """Return the entries of a kind of `KINDS`, the built-in ones first.

    Of plug-ins, those of `plugins` and those that installed packages declare, it has the public
    classes that meet the kind's contract, and functions whose return annotation says so.
    """
    from kdx.recipe.kinds import lack  # here, because it brings torch

    if kind == "average":  # sections of a recipe, which no plug-in adds to
        return [_average(name, *about) for name, about in AVERAGES.items()]
    factories = dict(table(kind)) | (timm_optimizers() if kind == "optimizer" else {})
    installed = sorted(allowed_modules(plugins) - HOUSE)
    for name in (*PACKAGES.get(kind, ()), *installed):
        for module in _modules(name):
            for public in vars(module).get("__all__", ()):
                with suppress(Exception):  # of a module's __getattr__
                    factory = getattr(module, public)
                    if not inspect.ismodule(factory) and not lack(factory, kind, annotated=True):
                        factories[f"{module.__name__}.{public}"] = factory
    return [_entry(name, factory, kind) for name, factory in factories.items()]


def _average(name: str, line: str, defaults: Mapping[str, float]) -> Entry:
    fields = Average.model_fields
    arguments = (
        Argument(key, False, default, _schema(fields[key].annotation), False)
        for key, default in defaults.items()
    )
    return Entry(name, line, tuple(arguments), open=False)


def _modules(name: str) -> Iterator[ModuleType]:
    """Yield a module and, of a plug-in, its submodules; one that cannot be imported is left out."""
    with suppress(Exception, SystemExit):  # a plug-in may raise anything
        module = importlib.import_module(name)
        yield module
        inside = [] if name in HOUSE else getattr(module, "__path__", [])
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
    made = factory.func if isinstance(factory, partial) else factory
    line = inspect.cleandoc(made.__doc__ or "").partition("\n")[0]
    return Entry(name, line or f"{made.__name__} of {made.__module__}", tuple(arguments), takes_any)


def _schema(annotation: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; empty if it is not a type of data, such as Tensor."""
    try:
        schema = TypeAdapter(annotation).json_schema()
    except Exception:  # whatever pydantic raises for a type that it does not know
        return {}
    return {} if "$defs" in schema else schema


def _yaml(value: Any) -> str:
    """Return a default as a recipe would give it."""
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, str) and value:
        return value
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError):  # a plug-in's default may be anything
        return repr(value)


def _type(schema: dict[str, Any]) -> str:
    """Return the values that a JSON schema allows, in words; "" if it does not say."""
    if several := schema.get("anyOf"):
        return " or ".join(filter(None, dict.fromkeys(map(_type, several))))
    if options := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(map(_yaml, options))
    if schema.get("type") == "array":
        entries = [_type(each) for each in schema.get("prefixItems", [])]
        entries += [_type(schema["items"]), "..."] if "items" in schema else []
        return f"[{', '.join(entries)}]"
    name = str(schema.get("type", ""))
    return {"object": "mapping", "boolean": "true or false"}.get(name) or name
