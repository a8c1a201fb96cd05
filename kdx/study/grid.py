"""From a study's file to the runs that it stands for."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.recipe import Problem, Recipe, RecipeError, load
from kdx.recipe.paths import Locations
from kdx.study.arms import arm_overrides, written
from kdx.study.cell import Cell
from kdx.study.schema import Setting, Study, read_study

__all__ = ["Grid", "open_study"]

FOLDER = "studies"  # of the output root


@dataclass(frozen=True)
class Grid:
    """A study and its cells: all arms of the first seed first, then those of the next."""

    study: Study
    name: str
    directory: Path
    cells: Sequence[Cell]


def open_study(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    output_root: str | os.PathLike[str] = "runs",
) -> Grid:
    """Return the study in the YAML file at `path`, with overrides of its keys, and all its recipes.

    `overrides` are such as `seeds=[7]`, `overrides.epochs=30`. Raises RecipeError with all that is
    wrong, with the study or with any of its recipes.
    """
    file = Path(path)
    study = read_study(file, list(overrides))
    name = _name(study, file, Path(output_root))
    problems: list[Problem] = []
    recipes: dict[tuple[str, str], Recipe] = {}
    for setting, arm in _pairs(study):
        maker = _Maker(study, file, tuple(plugins), Path(output_root), name)
        try:
            recipes[setting, arm] = maker.recipe(setting, arm)
        except RecipeError as error:
            where = ", ".join(filter(None, (setting, arm)))
            problems += [Problem(p.place, f"{where}: {p.where}", p.message) for p in error.problems]
        except ValueError as error:
            problems.append(Problem(str(file), setting, str(error)))
    _check_places(recipes, file, problems)
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    cells = [
        Cell(setting, arm, seed, recipe.model_copy(update=_of_seed(recipe, seed)))
        for seed in study.seeds
        for (setting, arm), recipe in recipes.items()
    ]
    return Grid(study, name, Path(output_root) / name, cells)


def _name(study: Study, file: Path, root: Path) -> str:
    """Return the study's name, by default studies/<folder>/<file>; RecipeError for a bad one."""
    parts = (FOLDER, file.resolve().parent.name, file.stem)
    try:
        return Locations(file, root).name(study.name or "/".join(parts))
    except ValueError as error:
        raise RecipeError([Problem(str(file), "name", str(error))]) from error


def _pairs(study: Study) -> Iterator[tuple[str, str]]:
    for setting, section in study.settings.items():
        for arm in study.arms:
            if section.arms is None or arm in section.arms:
                yield setting, arm


@dataclass(frozen=True)
class _Maker:
    """Makes the recipes of a study."""

    study: Study
    file: Path
    plugins: tuple[str, ...]
    root: Path
    name: str

    def recipe(self, setting: str, arm: str) -> Recipe:
        """Return the recipe of an arm, with the first seed."""
        study, own = self.study, self.study.arms[arm]
        section: Setting = study.settings[setting]
        given = self.file.parent / (own.recipe or section.recipe or study.recipe)
        shared = written({**study.overrides, **section.overrides})
        alone = study.alone if section.alone is None else section.alone
        changes = arm_overrides(own.arm or arm, self._load(given, shared), alone)
        place = "/".join(filter(None, (self.name, slug(setting), slug(arm))))
        named = written({**own.overrides, "name": f"{place}/seed_{study.seeds[0]}"})
        return self._load(given, [*shared, *changes, *named, f"seed={study.seeds[0]}"])

    def _load(self, path: Path, overrides: Sequence[str]) -> Recipe:
        return load(path, overrides, plugins=self.plugins, output_root=self.root)


def slug(label: str) -> str:
    """Return a label as the name of a directory: "k = 7, r = 4" is k-7-r-4."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-")


def _of_seed(recipe: Recipe, seed: int) -> dict[str, object]:
    return {"seed": seed, "name": f"{recipe.name.rpartition('/')[0]}/seed_{seed}"}


def _check_places(
    recipes: dict[tuple[str, str], Recipe], file: Path, problems: list[Problem]
) -> None:
    """Report cells that would share a directory, since their names differ in signs alone."""
    seen: dict[str, str] = {}
    for (setting, arm), recipe in recipes.items():
        label = ", ".join(filter(None, (setting, arm)))
        other = seen.setdefault(recipe.name, label)
        if other != label:
            message = f"{other!r} and {label!r} would be one directory: give one another name"
            problems.append(Problem(str(file), "arms", message))
