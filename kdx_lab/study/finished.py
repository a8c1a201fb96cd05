"""Whether the finished runs of a study used the recipes that it has now."""

from kdx.recipe import Recipe
from kdx.recipe.errors import Report
from kdx.recipe.yaml_source import parse, read_mapping
from kdx.run.directory import is_finished
from kdx.run.resume import compare_recipes, flat
from kdx_lab.study.grid import Grid

__all__ = ["changed_since", "check_finished"]

TOLD = {"select", "evaluate_every", "train_metrics", "teacher.weights"}
"""Keys that may change when a run resumes, but that the results of a finished run depend on."""


def check_finished(grid: Grid) -> None:
    """Raise ValueError if finished runs of the study were made with other recipes.

    Only the recipe.yaml of a run is read, so its checkpoints may be gone.
    """
    found = {
        cell.run_dir: changed
        for cell in grid.cells
        if is_finished(cell.run_dir) and (changed := changed_since(cell.recipe))
    }
    if found:
        first, lines = next(iter(found.items()))
        more = f"\n{len(found) - 1} more runs differ" if found.keys() - {first} else ""
        listed = "\n  ".join(lines)
        raise ValueError(
            f"{first} is finished, but its recipe differs from the study's:\n  {listed}{more}\n"
            "Revert these changes, or give the study another name (name=...)"
        )


def changed_since(recipe: Recipe) -> list[str]:
    """Return how a recipe differs from that of the run in its directory."""
    path = recipe.run_dir / "recipe.yaml"
    trained = read_mapping(path, Report(str(path)), "the recipe of a run is a mapping")
    asked = parse(recipe.to_yaml(), Report(str(path)))
    told = TOLD | {f"teachers.{name}.weights" for name in recipe.teachers}
    return compare_recipes(flat(trained), flat(asked), equal=told).refused
