"""List what a recipe can name in `use:`, with arguments and defaults.

kdx list losses|networks|datasets|transforms|schedules|optimizers [--plugin MODULE]

Of plug-ins it lists public classes, and functions with a return annotation.
"""

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdx.commands.shared import terminal
from kdx.recipe import allow

if TYPE_CHECKING:  # it imports torch
    from kdx.commands.catalogue import Entry

__all__ = ["KINDS", "add_arguments", "rows", "run"]

KINDS = {
    "losses": "loss",
    "networks": "network",
    "datasets": "dataset",
    "transforms": "transform",
    "schedules": "schedule",
    "optimizers": "optimizer",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx list`."""
    add = parser.add_argument
    add("what", choices=KINDS, help="what to list")
    add("--markdown", action="store_true", help="print a Markdown table of the arguments")
    add("--plugin", action="append", default=[], metavar="MODULE", dest="plugins",
        help="a module to list as well, installed or in the current directory")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Print the entries for the width of the terminal, or as Markdown."""
    allow(args.plugins)
    from kdx.commands.catalogue import catalogue

    entries = catalogue(KINDS[args.what], plugins=args.plugins)
    if args.markdown:
        print(f"| {KINDS[args.what]} | argument | default | values |\n| --- | --- | --- | --- |")
        for entry in entries:
            for row in rows(entry):
                print(f"| {' | '.join(row)} |".replace("|  |", "| |"))
        return
    console = terminal()
    for entry in entries:
        table = Table.grid(padding=(0, 2, 0, 0))
        for style in ("cyan", None, "dim"):
            table.add_column(style=style, overflow="fold")
        for each in entry.arguments:
            if not each.provided:
                default = "required" if each.required else _yaml(each.default)
                table.add_row(each.name, Text(default), Text(_type(each.schema)))
        if entry.open:
            table.add_row("...", "", "any other keyword")
        console.print(Text(entry.name, "bold"))
        console.print(Padding(Group(Text(entry.line), table), (0, 0, 0, 4), expand=False))


def rows(entry: "Entry") -> Iterator[tuple[str, str, str, str]]:
    """Yield a row of the table for each argument: name, argument, default and type, quoted."""
    for each in entry.arguments:
        if not each.provided:
            default = "" if each.required else f"`{_yaml(each.default)}`"
            yield f"`{entry.name}`", f"`{each.name}`", default, _type(each.schema)


def _yaml(value: Any) -> str:
    """Return a default as a recipe would give it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _type(schema: dict[str, Any]) -> str:
    """Return the values that a JSON schema allows, in words; "" if it does not say."""
    if several := schema.get("anyOf"):
        return " or ".join(filter(None, dict.fromkeys(map(_type, several))))
    if "const" in schema or "enum" in schema:
        return ", ".join(_yaml(value) for value in schema.get("enum", [schema.get("const")]))
    name = str(schema.get("type", ""))
    inner = schema.get("prefixItems") or [schema.get("items", {})]
    if name == "array":
        return (
            f"[{', '.join(_type(each) or '...' for each in inner)}{', ...' * ('items' in schema)}]"
        )
    return {"object": "mapping", "boolean": "true or false"}.get(name, name)
