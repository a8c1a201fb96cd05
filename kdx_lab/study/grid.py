"""From a study's file to its runs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from kdx.recipe import Problem, Recipe, RecipeError
from kdx.recipe.paths import Locations
from kdx_lab.study.arms import BUILT_IN
from kdx_lab.study.cell import Cell, Pair, label, of_seed
from kdx_lab.study.making import Maker, slug
from kdx_lab.study.problems import Problems
from kdx_lab.study.reading import read_study
from kdx_lab.study.schema import Study
from kdx_lab.tuning.folder import TUNE
from kdx_lab.tuning.space import Range, parsed

__all__ = ["Grid", "Pair", "label", "open_study"]

FOLDER = "studies"  # of the output root
RESERVED = {"analysis", "logs", "report.html", "results.json", "results.md", TUNE, "tuned.json"}


@dataclass(frozen=True)
class Grid:
    """A study and its cells: all arms of the first seed first, then those of the next.

    `recipes` are those of the first seed, made by `maker`.
    """

    study: Study
    name: str
    directory: Path
    cells: Sequence[Cell]
    recipes: Mapping[Pair, Recipe]
    maker: Maker

    def space(self, arm: str) -> dict[str, Any]:
        """Return what is searched for an arm: the study's space, and its own."""
        assert self.study.tune, "the caller has looked"
        return {**self.study.tune.space, **self.study.arms[arm].space}

    def trial(self, pair: Pair, number: int, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a trial of an arm, which lies in a folder of its own."""
        place = "/".join(filter(None, (self.name, TUNE, *map(slug, pair))))
        recipe = self.maker.recipe(*pair, values)
        return of_seed(recipe, self.study.seeds[0], f"{place}/trial_{number:03d}")

    def tuned(self, values: Mapping[Pair, Mapping[str, Any]]) -> "Grid":
        """Return the study with the values that were chosen for its arms."""
        recipes = {pair: self.maker.recipe(*pair, values[pair]) for pair in self.recipes}
        return replace(self, recipes=recipes, cells=_cells(self.study, recipes))


def open_study(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    output_root: str | os.PathLike[str] = "runs",
) -> Grid:
    """Return the study in the YAML file at `path`, with overrides of its keys, and all its recipes.

    `overrides` are such as `seeds=[7]`, `overrides.epochs=30`. Raises RecipeError with all problems
    of the study and of its recipes.
    """
    file, root = Path(path), Path(output_root)
    study, report = read_study(file, list(overrides))
    name = _name(study, file, root)
    pairs = list(_pairs(study))
    maker = Maker(study, file, tuple(plugins), root, name, report)
    problems = Problems(study, report, pairs)
    recipes: dict[Pair, Recipe] = {}
    for setting, arm in pairs:
        try:
            recipes[setting, arm] = recipe = maker.recipe(setting, arm)
            _check_place(recipe, name, recipes)
            _check_losses(recipe)
        except RecipeError as error:
            for problem in error.problems:
                problems.add(problem, setting, arm)
        except ValueError as error:
            problems.add(Problem(str(file), "", str(error)), setting, arm)
    problems.raise_any()
    cells = _cells(study, recipes)
    _check_apart(cells, file)
    grid = Grid(study, name, root / name, cells, recipes, maker)
    _check_search(grid, problems)
    return grid


def _cells(study: Study, recipes: Mapping[Pair, Recipe]) -> list[Cell]:
    return [
        Cell(setting, arm, seed, of_seed(recipe, seed, _named(recipe, seed)))
        for seed in study.seeds
        for (setting, arm), recipe in recipes.items()
    ]


def _check_search(grid: Grid, problems: Problems) -> None:
    """Report arms that cannot be tuned: without validation images, or with a wrong key."""
    for pair, recipe in grid.recipes.items() if grid.study.tune else ():
        if not recipe.data.validation:
            message = "tune needs validation images: set overrides.data.validation"
            place = grid.maker.report.place(("tune",))
            problems.add(Problem(place, "data.validation", message), *pair)
        spaces = {key: _corners(parsed(each)) for key, each in grid.space(pair[1]).items()}
        for index in range(max(map(len, spaces.values()), default=0)):
            try:
                grid.maker.recipe(*pair, {k: v[index % len(v)] for k, v in spaces.items()})
            except RecipeError as error:
                for problem in error.problems:
                    problems.add(problem, *pair)
    problems.raise_any()


def _corners(space: Range | tuple[object, ...]) -> tuple[object, ...]:
    """Return all values of a list, and the ends of a range."""
    if isinstance(space, tuple):
        return space
    return tuple(int(n) if space.kind == "int" else n for n in (space.low, space.high))


def _name(study: Study, file: Path, root: Path) -> str:
    """Return the study's name, by default studies/<folder>/<file>; RecipeError for a bad one."""
    parts = (FOLDER, file.resolve().parent.name, file.stem)
    try:
        return Locations(file, root).name(study.name or "/".join(parts))
    except ValueError as error:
        raise RecipeError([Problem(str(file), "name", str(error))]) from error


def _pairs(study: Study) -> Iterator[Pair]:
    """Yield the arms of each setting that have a recipe and are known; others are reported."""
    for setting, section in study.settings.items():
        for name, arm in study.arms.items():
            wanted = section.arms is None or name in section.arms
            if wanted and (study.recipe or section.recipe) and (arm.arm or name) in BUILT_IN:
                yield setting, name


def _named(recipe: Recipe, seed: int) -> str:
    return f"{recipe.name.rpartition('/')[0]}/seed_{seed}"


def _check_place(recipe: Recipe, name: str, recipes: dict[Pair, Recipe]) -> None:
    """Raise ValueError if runs would share a directory, or use one of the study's own."""
    first, *others = [label(*pair) for pair, each in recipes.items() if each.name == recipe.name]
    if others:
        raise ValueError(
            f"{first!r} and {others[0]!r} would use the same directory: rename one of them"
        )
    taken = recipe.name.removeprefix(f"{name}/").split("/")[0]
    if taken in RESERVED:
        raise ValueError(f"{taken!r} is reserved for the study: rename the arm or setting")


def _check_losses(recipe: Recipe) -> None:
    """Raise ValueError for losses that need a teacher in a recipe without one."""
    from kdx.losses import TABLE, WITHOUT_TEACHER

    if recipe.all_teachers:
        return
    for stage in recipe.resolved_stages():
        for term in stage.losses:
            if (use := term.component.use) in TABLE.keys() - WITHOUT_TEACHER:
                keep = "built-in arms that end in `+kd` keep the recipe's"
                raise ValueError(f"{use} needs a teacher, and this arm has none: {keep}")


def _check_apart(cells: Sequence[Cell], file: Path) -> None:
    """Raise RecipeError if a run would lie in that of another."""
    by_name = {cell.recipe.name: cell for cell in cells}
    for name, cell in by_name.items():
        for parent in map(str, PurePosixPath(name).parents):
            if parent in by_name:
                message = f"{cell} would lie in the run of {by_name[parent]}: rename one of them"
                raise RecipeError([Problem(str(file), "", message)])
