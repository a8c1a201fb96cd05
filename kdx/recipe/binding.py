"""From a recipe's data to its components: what `use:` names, with the keys beside it."""

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

from kdx.recipe.arguments import check
from kdx.recipe.component import Component
from kdx.recipe.errors import KeyPath, Report, dotted
from kdx.recipe.registry import resolve
from kdx.recipe.sections import Data, LossTerm, Student, Teacher
from kdx.recipe.wording import show

__all__ = ["Binder"]


class Binder:
    """Puts components in the place of the mappings that describe them.

    Names resolve into the modules `allowed`; problems go to `report`. What is no mapping, or
    no list where one is due, is left for the schema to refuse.
    """

    def __init__(self, allowed: Collection[str], report: Report) -> None:
        self._allowed = allowed
        self._report = report

    def recipe(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return `data` with components, as `schema.Recipe` takes it."""
        bound = self._training(data, ())
        for key, kind, model in (
            ("data", "dataset", Data),
            ("teacher", "network", Teacher),
            ("student", "network", Student),
        ):
            if key in data:
                bound[key] = self._section(data[key], (key,), kind, model)
        student = bound.get("student")
        if isinstance(student, dict) and isinstance(transforms := student.get("transforms"), list):
            student["transforms"] = [
                self._component(entry, ("student", "transforms", index), "transform")
                for index, entry in enumerate(transforms)
            ]
        if isinstance(stages := data.get("stages"), list):
            bound["stages"] = [
                self._training(stage, ("stages", index)) if isinstance(stage, dict) else stage
                for index, stage in enumerate(stages)
            ]
        return bound

    def _training(self, data: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        """Bind what both the recipe and its stages have."""
        bound = dict(data)
        for key in ("optimizer", "schedule"):
            if key in data:
                bound[key] = self._component(data[key], (*path, key), key)
        if isinstance(losses := data.get("losses"), list):
            bound["losses"] = [
                self._section(entry, (*path, "losses", index), "loss", LossTerm)
                for index, entry in enumerate(losses)
            ]
        return bound

    def _section(self, data: Any, path: KeyPath, kind: str, model: type[BaseModel]) -> Any:
        """Return the section's own keys, and its component under `component`."""
        if not isinstance(data, dict):
            return data
        own = model.model_fields.keys() - {"component"}
        kept = {key: value for key, value in data.items() if key in own}
        return {**kept, "component": self._component(data, path, kind, own)}

    def _component(self, data: Any, path: KeyPath, kind: str, own: Collection[str] = ()) -> Any:
        if not isinstance(data, dict):
            return data
        arguments = {key: value for key, value in data.items() if key not in {"use", *own}}
        use = data.get("use")
        if isinstance(use, Component):  # of a Python object: see kdx.run.objects
            for name in arguments:
                self._report.add((*path, name), "an object takes no arguments: set it there")
            return use
        factory = self._factory(use, path, kind)
        if factory is not None:
            for name, message in check(factory, kind, arguments, reserved=own):
                self._report.add((*path, name), message)
        at = (*path, "use")
        place, where = self._report.place(at), dotted(path)
        return Component(kind, str(use), arguments, factory or dict, place, where)

    def _factory(self, use: Any, path: KeyPath, kind: str) -> Any:
        """Return what `use` names; None, with the problem reported, where it names nothing."""
        path = (*path, "use")
        if use is None:
            self._report.add(path, f"is missing: the name of the {kind}")
        elif not isinstance(use, str):
            self._report.add(path, f"{show(use)} is not the name of a {kind}")
        else:
            try:
                return resolve(use, kind, self._allowed)
            except ValueError as error:
                self._report.add(path, str(error))
        return None
