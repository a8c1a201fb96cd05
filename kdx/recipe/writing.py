"""A recipe as YAML that reads back as the same recipe."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from kdx.recipe.arguments import Component
from kdx.recipe.yaml_source import scalar


def to_yaml(recipe: BaseModel, *, leave_out: Collection[str] = ()) -> str:
    """Return `recipe` as text, in the order of the schema, but for the keys in `leave_out`."""
    kept = {key: value for key, value in plain(recipe).items() if key not in leave_out}
    return yaml.dump(kept, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """Return a recipe, or a part of it, as nested dicts, lists and scalars."""
    if isinstance(value, Component):
        return {"use": value.use, **value.arguments}
    if isinstance(value, BaseModel):
        fields = {name: plain(getattr(value, name)) for name in type(value).model_fields}
        return {**fields.pop("component", {}), **fields}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


class _Dumper(yaml.SafeDumper):
    """Writes what `yaml_source` reads: no aliases, and quotes if a string needs them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
