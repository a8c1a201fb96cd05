"""The recipes of a study: what all arms share, what a built-in arm changes, and overrides."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdx.recipe import Problem, Recipe, RecipeError, load
from kdx.recipe.errors import KeyPath, Report, dotted
from kdx.recipe.overrides import parts_of
from kdx.recipe.wording import show
from kdx_lab.study.arms import arm_overrides, written
from kdx_lab.study.multiplying import given_name
from kdx_lab.study.schema import Study

__all__ = ["Maker", "slug"]

_Shared = dict[tuple[Path, tuple[str, ...]], Recipe]


@dataclass(frozen=True)
class Maker:
    """Makes the recipes of a study, whose runs are named below `name`; `report` knows its lines."""

    study: Study
    file: Path
    plugins: Sequence[str]
    root: Path
    name: str
    report: Report
    _loaded: _Shared = field(default_factory=dict)

    def recipe(self, setting: str, arm: str, values: Mapping[str, Any] | None = None) -> Recipe:
        """Return the recipe of an arm, with the first seed and the `values` that were tuned.

        RecipeError for its problems, located in the study if an override causes them; ValueError as
        `arm_overrides`.
        """
        study, section, own = self.study, self.study.settings[setting], self.study.arms[arm]
        path = self.file.parent / (own.recipe or section.recipe or study.recipe)
        given = given_name(setting, section, study.grid)
        axes = {key: section.overrides[key] for key in study.grid}
        keys = {
            **_keys(study.overrides, "overrides"),
            **_keys(section.overrides, "settings", given, "overrides"),
            **_keys(axes, "grid"),
        }
        shared = (*written(study.overrides), *written(section.overrides))
        losses = section.losses_without_teacher
        losses = study.losses_without_teacher if losses is None else losses
        changes = arm_overrides(own.arm or arm, self._shared(path, shared, keys), losses)
        place = "/".join(filter(None, (self.name, slug(setting), slug(arm))))
        named = {"name": f"{place}/seed_{study.seeds[0]}", "seed": study.seeds[0]}
        keys |= dict.fromkeys(changes, ()) | _keys(own.overrides, "arms", arm, "overrides")
        values = values or {}
        keys |= dict.fromkeys(written(named), ()) | _keys(values, "tune", "space")
        searched = {key: value for key, value in values.items() if key in own.space}
        keys |= _keys(searched, "arms", arm, "space")
        last = (text for each in (own.overrides, values, named) for text in written(each))
        return self._load(path, (*shared, *changes, *last), keys)

    def _shared(self, path: Path, texts: tuple[str, ...], keys: Mapping[str, KeyPath]) -> Recipe:
        """Return the recipe that arms are made of; it is the same for most of them."""
        if (path, texts) not in self._loaded:
            self._loaded[path, texts] = self._load(path, texts, keys)
        return self._loaded[path, texts]

    def _load(self, path: Path, texts: Sequence[str], keys: Mapping[str, KeyPath]) -> Recipe:
        """Load a recipe; `keys` are the keys of the study by the text of their override."""
        try:
            return load(path, texts, plugins=self.plugins, output_root=self.root)
        except RecipeError as error:
            places = {f"override {show(text)}": key for text, key in keys.items()}
            raise RecipeError([self._placed(each, places) for each in error.problems]) from error

    def _placed(self, problem: Problem, places: Mapping[str, KeyPath]) -> Problem:
        """Return the problem of an override at its key in the study, with its line."""
        if not (path := places.get(problem.place)):
            file = problem.place if path is None else os.fspath(self.file)
            return Problem(file, problem.where, problem.message)
        told = parts_of(problem.where) == parts_of(str(path[-1]))
        return Problem(
            f"{self.report.place(path)}: {dotted(path)}",
            "" if told else problem.where,
            problem.message,
        )


def _keys(overrides: Mapping[str, Any], *section: str) -> dict[str, KeyPath]:
    """Return the study's key of each override, by its text."""
    return {written({key: value})[0]: (*section, key) for key, value in overrides.items()}


def slug(label: str) -> str:
    """Return a label as the name of a directory: "kernel 7 r+4" is kernel-7-r-4."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-")
