"""Reading a recipe: file, overrides, components, schema; all problems at once."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from kdx.recipe.binding import Binder
from kdx.recipe.errors import KeyPath, Report
from kdx.recipe.overrides import override
from kdx.recipe.paths import Locations
from kdx.recipe.reading import read_mapping
from kdx.recipe.registry import allowed_modules
from kdx.recipe.schema import Recipe
from kdx.recipe.sections import (
    Augment,
    InputOverride,
    MemoSection,
    StageSection,
    Student,
    Tolerance,
)
from kdx.recipe.wording import explain, show, unknown

__all__ = ["beside", "load", "load_student", "read"]

_MODELS: dict[KeyPath, type[BaseModel]] = {
    (): Recipe,
    ("data", "augment"): Augment,
    ("teacher", "input"): InputOverride,
    ("teacher", "memo"): MemoSection,
    ("stages",): StageSection,
    ("tolerance",): Tolerance,
}


def load(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    plugins: Iterable[str] = (),
    output_root: str | os.PathLike[str] = "runs",
) -> Recipe:
    """Return the recipe in the YAML file at `path`, with `key=value` overrides.

    `plugins` are modules, besides kdx, expand and teachers, that `use:` may name. Runs are
    written below `output_root`. Raises RecipeError with all problems, each with its line.
    """
    return read(Locations(Path(path), Path(output_root), tuple(plugins)), overrides)


def read(
    locations: Locations, overrides: Sequence[str] = (), *, given: Mapping[str, Any] | None = None
) -> Recipe:
    """Return the recipe at `locations.file`, or the one `given` as plain data; as `load`."""
    report = Report(os.fspath(locations.file))
    if given is None:
        rule = "a recipe is a mapping, with `data:` and `student:`"
        given = read_mapping(locations.file, report, rule)
    data = _defaults() | copy.deepcopy(dict(given))
    if "arms" in data and "student" not in data:
        report.fail("this is a study, not a recipe: tools/study.py runs it")
    override(data, overrides, report)
    _check_relations(data, report)
    _check_memo(data, locations, report)
    _check_epochs(data, report)
    bound = Binder(allowed_modules(locations.plugins), report).recipe(data)
    recipe = _validate(bound, locations, report)
    report.raise_any()
    assert recipe is not None, "a recipe without problems is valid"
    return recipe


def beside(recipe: Recipe, path: Path) -> Recipe:
    """Return another recipe, loaded with the plug-ins and output root of `recipe`.

    RecipeError also if it names `recipe`, or one that led to it, as its teacher's.
    """
    return read(recipe.locations.beside(path))


def load_student(
    section: Mapping[str, Any], overrides: Sequence[str] = (), *, plugins: Iterable[str] = ()
) -> Student:
    """Return a recipe's `student:` section that stands in no file, with overrides of its keys.

    `kernel_size=7` sets `student.kernel_size`. Raises RecipeError with all problems.
    """
    report = Report("the network")
    data: dict[str, Any] = {"student": copy.deepcopy(dict(section))}
    override(data, [f"student.{text}" for text in overrides], report)
    bound = Binder(allowed_modules(plugins), report).recipe(data)["student"]
    try:
        student = Student.model_validate(bound, context=Locations(Path(), Path("runs")))
    except ValidationError as invalid:
        for error in invalid.errors():
            report.add(("student", *error["loc"]), explain(error))
        student = None
    report.raise_any()
    assert student is not None, "a section without problems is valid"
    return student


def _defaults() -> dict[str, Any]:
    """Return the sections that have a default with a `use:`; new ones, as overrides edit them."""
    return {
        "losses": [{"use": "cross_entropy"}],
        "optimizer": {"use": "SGD", "lr": 0.01, "momentum": 0.9},
        "schedule": {"use": "constant"},
    }


def _get(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, dict) else None


def _stages(data: dict[str, Any]) -> list[Any]:
    return data["stages"] if isinstance(data.get("stages"), list) else []


def _check_relations(data: dict[str, Any], report: Report) -> None:
    """Report what is wrong between sections, whether or not each is right in itself."""
    if data.get("select") == "best" and not _get(data.get("data"), "validation"):
        report.add(("select",), "'best' needs `data.validation`, images to choose the epoch by")
    teacher = data.get("teacher")
    if _get(teacher, "recipe") and not _get(teacher, "weights"):
        report.add(("teacher", "recipe"), "needs `weights:`, the run directory that it fills")
    if not _get(data.get("student"), "transforms"):
        for index, stage in enumerate(_stages(data)):
            if phase := _get(stage, "phase"):
                message = f"phase {show(phase)} but the student has no transforms"
                report.add(("stages", index, "phase"), message)


def _check_memo(data: dict[str, Any], locations: Locations, report: Report) -> None:
    """Report memos outside the output root, unless an override asks for them there.

    A recipe may be from elsewhere; the command line is the user's own.
    """
    path = ("teacher", "memo", "directory")
    memo = _get(data.get("teacher"), "memo")
    given = _get(memo, "directory") or "runs/memos"
    asked = report.overridden(path) and _get(memo, "directory")
    if isinstance(memo, dict) and isinstance(given, str) and not (asked or locations.holds(given)):
        root = locations.output_root
        message = f"{show(given)} is outside the output root {root}, below which a recipe writes"
        report.add(path, f"{message}: give it on the command line, teacher.memo.directory=...")


def _check_epochs(data: dict[str, Any], report: Report) -> None:
    """Report `epochs` that no stage uses; an override of the stages' may leave the file's so."""
    stages = _stages(data)
    if "epochs" not in data or not stages or any(_get(s, "epochs") is None for s in stages):
        return
    keys = [("stages", index, "epochs") for index in range(len(stages))]
    if report.overridden(("epochs",)) or not any(map(report.overridden, keys)):
        instead = ", ".join(f"stages.{index}.epochs=..." for index in range(len(stages)))
        report.add(("epochs",), f"no stage uses it, each sets its own: set {instead}")


def _validate(bound: dict[str, Any], locations: Locations, report: Report) -> Recipe | None:
    try:
        return Recipe.model_validate(bound, context=locations)
    except ValidationError as invalid:
        for error in invalid.errors():
            report.add(error["loc"], _message(error))
    return None


def _message(error: Any) -> str:
    if error["type"] != "extra_forbidden":
        return explain(error)
    *section, key = error["loc"]
    model = _MODELS[tuple(part for part in section if isinstance(part, str))]
    return f"unknown key.{unknown(key, model.model_fields)}"
