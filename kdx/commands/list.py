"""List what a recipe can name in `use:`, with arguments and defaults.

kdx list networks|datasets|losses|transforms|optimizers|schedules [--plugin MODULE]

Of plug-ins it lists public classes, and functions with a return annotation.
"""

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from kdx.commands.shared import add_plugins, terminal
from kdx.recipe import allow
from kdx.recipe.registry import TABLES

if TYPE_CHECKING:  # it imports torch
    from kdx.commands.catalogue import Entry

KINDS = {"losses" if kind == "loss" else f"{kind}s": kind for kind in TABLES}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx list`."""
    add = parser.add_argument
    add("what", choices=KINDS, help="what to list")
    add("--markdown", action="store_true", help="print a Markdown table of the arguments")
    add_plugins(parser)


def run(args: argparse.Namespace) -> None:
    """Print the entries for the width of the terminal, or as Markdown."""
    allow(args.plugins)
    from kdx.commands.catalogue import catalogue

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
        table = Table.grid(*columns, padding=(0, 2, 0, 0))
        for name, default, values in rows(entry):
            table.add_row(name, Text(default or "required"), Text(values))
        if entry.open:
            table.add_row("...", "", "any other keyword")
        console.print(Text(entry.name, "bold"))
        console.print(Padding(Group(Text(entry.line), table), (0, 0, 0, 4), expand=False))


def rows(entry: "Entry") -> Iterator[tuple[str, str, str]]:
    """Yield the name, the default ("" if it is required) and the values of each argument."""
    for each in entry.arguments:
        if not each.provided:
            yield each.name, "" if each.required else _yaml(each.default), _type(each.schema)


def _yaml(value: Any) -> str:
    """Return a default as a recipe would give it."""
    return value if value and isinstance(value, str) else json.dumps(value, default=str)


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
