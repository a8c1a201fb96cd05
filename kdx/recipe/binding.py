"""From a recipe's data to its components: what `use:` names, with the keys beside it."""

from collections.abc import Collection
from functools import partial
from typing import Any

from pydantic import BaseModel

from kdx.recipe.arguments import Component, check
from kdx.recipe.errors import KeyPath, Report, dotted
from kdx.recipe.registry import resolve
from kdx.recipe.sections import Data, LossTerm, Student, Teacher
from kdx.recipe.wording import show

_SECTIONS = {
    "data": ("dataset", Data),
    "teacher": ("network", Teacher),
    "student": ("network", Student),
}


class Binder:
    """Replaces the mappings that describe components by the components.

    Names resolve into the modules `allowed`; problems go to `report`. What should be a mapping or
    a list and is not is left for the schema to refuse.
    """

    def __init__(self, allowed: Collection[str], report: Report) -> None:
        self._allowed, self._report = allowed, report

    def recipe(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return `data` with components, as `schema.Recipe` takes it."""
        bound = self._training(data, ())
        for key, (kind, model) in _SECTIONS.items():
            if key in data:
                bound[key] = self._section(data[key], (key,), kind, model)
        if isinstance(student := bound.get("student"), dict):
            bind = partial(self._component, kind="transform")
            bound["student"] = student | _each(student, "transforms", ("student",), bind)
        return bound | _each(data, "stages", (), self._training)

    def _training(self, data: Any, path: KeyPath) -> Any:
        """Bind what both the recipe and its stages have."""
        if not isinstance(data, dict):
            return data
        kinds = [key for key in ("optimizer", "schedule") if key in data]
        bound = {key: self._component(data[key], (*path, key), key) for key in kinds}
        bind = partial(self._section, kind="loss", model=LossTerm)
        return data | bound | _each(data, "losses", path, bind)

    def _section(self, data: Any, path: KeyPath, kind: str, model: type[BaseModel]) -> Any:
        """Return the section's own keys, and its component under `component`."""
        if not isinstance(data, dict):
            return data
        own = model.model_fields.keys() - {"component"}
        component = self._component(data, path, kind, own)
        return {key: data[key] for key in data if key in own} | {"component": component}

    def _component(self, data: Any, path: KeyPath, kind: str, own: Collection[str] = ()) -> Any:
        if not isinstance(data, dict):
            return data
        arguments = {key: value for key, value in data.items() if key not in {"use", *own}}
        if isinstance(data.get("use"), Component):  # a Python object: see kdx.run.objects
            for name in arguments:
                self._report.add((*path, name), "an object takes no arguments here: set its own")
            return data["use"]
        use, at, factory = data.get("use"), (*path, "use"), None
        if use is None:
            self._report.add(at, f"is missing: the name of the {kind}")
        elif not isinstance(use, str):
            self._report.add(at, f"{show(use)} is not the name of a {kind}")
        else:
            try:
                factory = resolve(use, kind, self._allowed)
            except ValueError as error:
                self._report.add(at, str(error))
        for name, message in check(factory, kind, arguments, reserved=own) if factory else ():
            self._report.add((*path, name), message)
        place = self._report.place(at)
        return Component(kind, str(use), arguments, factory or dict, place, dotted(path))


def _each(data: dict[str, Any], key: str, path: KeyPath, bind: Any) -> dict[str, Any]:
    """Return the list `key` of `data` with `bind` applied to its entries, if there is a list."""
    entries = data.get(key)
    if not isinstance(entries, list):
        return {}
    return {key: [bind(entry, (*path, key, index)) for index, entry in enumerate(entries)]}
