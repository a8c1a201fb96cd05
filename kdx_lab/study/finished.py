"""Whether the finished runs of a study used the recipes that it has now."""

import json
import os
import re
from contextlib import suppress
from typing import Any

from kdx import checkpoints
from kdx.data.digests import digest_of_weights
from kdx.recipe import Recipe
from kdx.recipe.errors import Report
from kdx.recipe.resuming import flat, resume_rule
from kdx.recipe.yaml_source import parse, read_mapping
from kdx.run.directory import is_finished
from kdx.run.interface import load_student
from kdx.run.resume import compare_recipes, digests_of
from kdx.training.job import build_data
from kdx.training.state import RUN
from kdx_lab.study.grid import Grid

__all__ = ["changed_since", "check_finished", "placeless"]

MUST_MATCH = {"select", "evaluate_every", "train_metrics", "data.root"}
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
    trained = flat(read_mapping(path, Report(str(path)), "the recipe of a run is a mapping"))
    asked = flat(parse(recipe.to_yaml(), Report(str(path))))
    for key, file in _left_by_runs(recipe).items():
        same = str(trained.get(key)).endswith(file.removeprefix("runs"))
        if same and _teacher_is_unchanged(recipe, key):  # the output root was moved
            trained[key] = asked[key]
    root, now = str(trained.get("data.root")), str(asked.get("data.root"))
    moved = os.path.realpath(root) != os.path.realpath(now)
    if moved and (not os.path.exists(now) or _same_images(recipe)):  # a report needs none
        trained["data.root"] = asked.get("data.root")
    equal = {key for key in {**trained, **asked} if key in MUST_MATCH or _is_weights(key)}
    return compare_recipes(trained, asked, equal=equal).refused


def placeless(recipe: Recipe) -> dict[str, Any]:
    """Return what the results of a run depend on, by dotted key, without where files lie."""
    equal, found = MUST_MATCH - {"data.root"}, {}
    for key, value in flat(recipe.plain()).items():
        rule = resume_rule(key, Recipe)
        if key in equal or _is_weights(key) or not (rule.may_differ or value == rule.absent):
            found[key] = value
    return found | _left_by_runs(recipe)


def _is_weights(key: str) -> bool:
    """Whether a key is of a teacher's weights: a path, or what `kdx.recipe` takes for one."""
    return re.match(r"(teacher|teachers\.[^.]+)\.weights(\.|$)", key) is not None


def _same_images(recipe: Recipe) -> bool:
    """Whether the run's newest checkpoint was trained with the images that there are now."""
    with suppress(OSError, ValueError, KeyError):
        saved, _ = checkpoints.newest(recipe.run_dir / "checkpoints", checkpoints.read)
        if saved:
            return json.loads(saved[RUN])["data"] == digests_of(build_data(recipe)[1])
    return False


def _teacher_is_unchanged(recipe: Recipe, key: str) -> bool:
    """Whether the run's newest checkpoint was trained with a teacher's weights as they are now.

    False also if there is no checkpoint, and for the student's own weights.
    """
    name = key.removeprefix("teachers.").rpartition(".weights")[0]
    file = recipe.all_teachers[name].file if name in recipe.all_teachers else None
    with suppress(OSError, ValueError, KeyError):
        saved, _ = checkpoints.newest(recipe.run_dir / "checkpoints", checkpoints.read)
        if file and saved:
            found = json.loads(saved[RUN])["teacher"]
            network = load_student(file.path, plugins=recipe.locations.plugins)
            known = found[name] if isinstance(found, dict) else found
            return digest_of_weights(network) == known
    return False


def _left_by_runs(recipe: Recipe) -> dict[str, str]:
    """Return the weights below the output root by key, such as runs/teacher/model.safetensors."""
    networks = {"student": recipe.student, **{
        "teacher" if recipe.teacher else f"teachers.{name}": each
        for name, each in recipe.all_teachers.items()
    }}  # fmt: skip
    files = {
        f"{name}.weights{'' if isinstance(each.weights, str) else '.path'}": each.file.path
        for name, each in networks.items()
        if each.file
    }
    found = {key: recipe.locations.portable(str(path)) for key, path in files.items()}
    return {key: path for key, path in found.items() if path.startswith("runs/")}
