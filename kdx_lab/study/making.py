"""The recipes of a study: what all arms share, what a built-in arm changes, and overrides."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdx.recipe import Problem, Recipe, RecipeError, load
from kdx.recipe.wording import show
from kdx_lab.study.arms import arm_overrides, written
from kdx_lab.study.schema import Study

__all__ = ["Maker", "slug"]

_Shared = dict[tuple[Path, tuple[str, ...]], Recipe]


@dataclass(frozen=True)
class Maker:
    """Makes the recipes of a study, whose runs are named below `name`."""

    study: Study
    file: Path
    plugins: Sequence[str]
    root: Path
    name: str
    _loaded: _Shared = field(default_factory=dict)

    def recipe(self, setting: str, arm: str, values: Mapping[str, Any] | None = None) -> Recipe:
        """Return the recipe of an arm, with the first seed and the `values` that were tuned.

        RecipeError for its problems, located in the study if an override causes them; ValueError as
        `arm_overrides`.
        """
        study, section, own = self.study, self.study.settings[setting], self.study.arms[arm]
        path = self.file.parent / (own.recipe or section.recipe or study.recipe)
        keys = {
            **_keys("overrides", study.overrides),
            **_keys(f"settings.{setting}.overrides", section.overrides),
        }
        shared = tuple(written({**study.overrides, **section.overrides}))
        given = section.losses_without_teacher
        losses = study.losses_without_teacher if given is None else given
        changes = arm_overrides(own.arm or arm, self._shared(path, shared, keys), losses)
        place = "/".join(filter(None, (self.name, slug(setting), slug(arm))))
        named = {"name": f"{place}/seed_{study.seeds[0]}", "seed": study.seeds[0]}
        keys |= dict.fromkeys(changes, "") | _keys(f"arms.{arm}.overrides", own.overrides)
        values = values or {}
        keys |= dict.fromkeys(written(named), "") | _keys("tune.space", values)
        keys |= _keys(f"arms.{arm}.space", {k: v for k, v in values.items() if k in own.space})
        last = {**own.overrides, **values, **named}
        return self._load(path, (*shared, *changes, *written(last)), keys)

    def _shared(self, path: Path, texts: tuple[str, ...], keys: Mapping[str, str]) -> Recipe:
        """Return the recipe that arms are made of; it is the same for most of them."""
        if (path, texts) not in self._loaded:
            self._loaded[path, texts] = self._load(path, texts, keys)
        return self._loaded[path, texts]

    def _load(self, path: Path, texts: Sequence[str], keys: Mapping[str, str]) -> Recipe:
        """Load a recipe; `keys` are the keys of the study by the text of their override."""
        try:
            return load(path, texts, plugins=self.plugins, output_root=self.root)
        except RecipeError as error:
            places = {f"override {show(text)}": key for text, key in keys.items()}
            raise RecipeError([self._placed(each, places) for each in error.problems]) from error

    def _placed(self, problem: Problem, places: Mapping[str, str]) -> Problem:
        if problem.place not in places:
            return problem
        place = ": ".join(filter(None, (os.fspath(self.file), places[problem.place])))
        return Problem(place, problem.where, problem.message)


def _keys(section: str, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Return the study's key of each override, by its text."""
    return {written({key: value})[0]: f"{section}.{key}" for key, value in overrides.items()}


def slug(label: str) -> str:
    """Return a label as the name of a directory: "kernel 7 r+4" is kernel-7-r-4."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-")
