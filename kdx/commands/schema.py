"""Write the JSON schema of recipes or studies, with which an editor completes and checks them.

kdx schema [recipe|study] [-o FILE] [--plugin MODULE]

An editor with the YAML language server reads it if a file begins with
# yaml-language-server: $schema=PATH
"""

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from kdx.commands.list import catalogue
from kdx.commands.main import VERBS
from kdx.commands.shared import add_plugins
from kdx.recipe import Recipe, allow
from kdx.recipe.arguments import HIDDEN
from kdx.util.files import write_whole

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
_SECTIONS = {
    "Data": "dataset",
    "Teacher": "network",
    "Student": "network",
    "LossTerm": "loss",
    "Optimizer": "optimizer",
}
_COMPONENTS = {
    "schedule": "schedule",
    "transforms": "transform",
    "augment": "augmentation",
    "then": "augmentation",
    "trackers": "tracker",
}
"""The models of sections with a `use:` and keys of their own, and the keys of others, by kind."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx schema`."""
    add = parser.add_argument
    add("what", nargs="?", choices=["recipe", "study"], default="recipe", help="default: recipe")
    add("-o", "--output", type=Path, metavar="FILE", help="default: print it")
    add_plugins(parser)


def run(args: argparse.Namespace) -> None:
    """Print the schema, or write it."""
    allow(args.plugins)
    text = json.dumps(schema_of(args.what, plugins=args.plugins), indent=1) + "\n"
    if args.output:
        write_whole(args.output, text)
    else:
        print(text, end="")


def schema_of(what: str, *, plugins: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON schema of a `recipe` or `study`, in the dialect of 2020-12.

    `use:` takes the known names, whose arguments are checked, and any dotted name.
    """
    study = VERBS["study"][0]  # kdx does not import kdx_lab: it finds its verbs by name
    schema = importlib.import_module(study).schema() if what == "study" else _recipe(plugins)
    return {"$schema": _DIALECT, "title": f"kdx {what}", **schema}


class _Generator(GenerateJsonSchema):
    """Leaves out titles, which repeat the keys, and what has no schema, such as factories."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}


def _recipe(plugins: Sequence[str]) -> dict[str, Any]:
    schema = Recipe.model_json_schema(schema_generator=_Generator)
    models = schema["$defs"]
    for properties in [each["properties"] for each in (schema, *models.values())]:
        for key in properties.keys() & _COMPONENTS.keys():
            text = json.dumps(properties[key]).replace("/Component", f"/{_COMPONENTS[key]}")
            properties[key] = json.loads(text)
    del models["Component"]
    for name, kind in _SECTIONS.items():
        models[name] = _component(kind, models[name], plugins)
    born_again = {"const": "student", "description": "The student's own network."}
    models["Teacher"]["properties"]["use"]["anyOf"].append(born_again)
    for kind in dict.fromkeys(_COMPONENTS.values()):
        models[kind] = _component(kind, {}, plugins)
    trackers = schema["properties"]["trackers"]
    names = [{"const": entry.name} for entry in catalogue("tracker", plugins=plugins)]
    dotted = {"type": "string", "pattern": _DOTTED}
    trackers["items"] = {"anyOf": [trackers["items"], *names, dotted]}
    return schema | {"required": ["data", "student"]}  # the others have defaults


def _component(kind: str, section: dict[str, Any], plugins: Sequence[str]) -> dict[str, Any]:
    """Return the schema of a section with `use:`: its own keys, and the arguments of each name."""
    own = {k: v for k, v in section.get("properties", {}).items() if k != "component"}
    names, cases = [], []
    for entry in catalogue(kind, plugins=plugins):
        names.append({"const": entry.name, "description": entry.line})
        hidden = own.keys() | HIDDEN.get(kind, frozenset())
        arguments = {each.name: each.schema for each in entry.arguments if each.name not in hidden}
        needed = [each.name for each in entry.arguments if each.required and not each.provided]
        case = {"properties": arguments | dict.fromkeys(("use", *own), True), "required": needed}
        named = {"required": ["use"], "properties": {"use": {"const": entry.name}}}
        cases.append({"if": named, "then": case | {"additionalProperties": entry.open}})
    use = {"anyOf": [*names, {"type": "string", "pattern": _DOTTED}]}
    bound = {"properties": {"use": use, **own}, "required": ["use"], "allOf": cases}
    return section | {"type": "object", "additionalProperties": True} | bound
