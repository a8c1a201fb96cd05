"""Reading a recipe: file, overrides, components, schema; all problems at once."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kdx.recipe.binding import Binder
from kdx.recipe.errors import KeyPath, Report
from kdx.recipe.overrides import override
from kdx.recipe.paths import Locations
from kdx.recipe.registry import allowed_modules
from kdx.recipe.resuming import sections_in
from kdx.recipe.schema import Recipe
from kdx.recipe.sections import Student
from kdx.recipe.wording import explain, show, unknown
from kdx.recipe.yaml_source import read_mapping

Section = TypeVar("Section", bound=BaseModel)

_DEFAULTS = {
    "losses": [{"use": "cross_entropy"}],
    "optimizer": {"use": "SGD", "lr": 0.01, "momentum": 0.9},
    "schedule": {"use": "constant"},
}
"""The sections with a `use:` that have a default."""


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
    rule = "a recipe is a mapping, with `data:` and `student:`"
    given = read_mapping(locations.file, report, rule) if given is None else given
    data = copy.deepcopy(_DEFAULTS | dict(given))
    if "arms" in data and "student" not in data:
        report.fail("this is a study, not a recipe: run it with `kdx study`")
    override(data, overrides, report)
    _check_relations(data, report)
    _check_memo(data, locations, report)
    bound = Binder(allowed_modules(locations.plugins), report).recipe(data)
    return _checked(Recipe, bound, locations, report)


def beside(recipe: Recipe, path: Path) -> Recipe:
    """Return another recipe, loaded with the plug-ins and output root of `recipe`.

    Raises RecipeError also if it names `recipe`, or one that led to it, as its teacher's.
    """
    return read(recipe.locations.beside(path))


def load_student(
    section: Mapping[str, Any], overrides: Sequence[str] = (), *, plugins: Iterable[str] = ()
) -> Student:
    """Return a recipe's `student:` section that is in no file, with overrides of its keys.

    `kernel_size=7` sets `student.kernel_size`. Raises RecipeError with all problems.
    """
    report = Report("the network")
    data: dict[str, Any] = {"student": copy.deepcopy(dict(section))}
    override(data, [f"student.{text}" for text in overrides], report)
    bound = Binder(allowed_modules(plugins), report).recipe(data)["student"]
    return _checked(Student, bound, Locations(Path(), Path("runs")), report, ("student",))


def _get(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _check_relations(data: dict[str, Any], report: Report) -> None:
    """Report what is wrong between sections, whether or not each is right in itself."""
    if data.get("select") == "best" and not _get(data, "data", "validation"):
        report.add(("select",), "'best' needs `data.validation`, images to choose the epoch by")
    if _get(data, "teacher", "recipe") and not _get(data, "teacher", "weights"):
        report.add(("teacher", "recipe"), "needs `weights:`, the run directory that it fills")
    stages = data["stages"] if isinstance(data.get("stages"), list) else []
    for index, stage in enumerate(stages):
        if (phase := _get(stage, "phase")) and not _get(data, "student", "transforms"):
            message = f"phase {show(phase)} but the student has no transforms"
            report.add(("stages", index, "phase"), message)
    if "epochs" in data and stages and all(_get(s, "epochs") is not None for s in stages):
        # An override of the stages' epochs may leave the file's unused.
        keys = [("stages", index, "epochs") for index in range(len(stages))]
        if report.overridden(("epochs",)) or not any(map(report.overridden, keys)):
            instead = ", ".join(f"stages.{index}.epochs=..." for index in range(len(stages)))
            report.add(("epochs",), f"unused, since every stage sets its own: set {instead}")


def _check_memo(data: dict[str, Any], locations: Locations, report: Report) -> None:
    """Report memos outside the output root, unless an override asks for them there.

    A recipe may be from elsewhere; the command line is the user's own.
    """
    path = ("teacher", "memo", "directory")
    given = _get(data, *path) or "runs/memos"
    asked = report.overridden(path) and _get(data, *path)
    wanted = isinstance(_get(data, *path[:2]), dict) and isinstance(given, str)
    if wanted and not (asked or locations.holds(given)):
        root = locations.output_root
        message = f"{show(given)} is outside the output root {root}, where recipes may write"
        report.add(path, f"{message}: set it on the command line, teacher.memo.directory=...")


def _checked(
    model: type[Section], bound: Any, locations: Locations, report: Report, at: KeyPath = ()
) -> Section:
    """Return `bound`, what is at `at`, as a `model`; raise RecipeError with all problems."""
    checked = None
    try:
        checked = model.model_validate(bound, context=locations)
    except ValidationError as invalid:
        for error in invalid.errors():
            report.add((*at, *error["loc"]), _message(error, model))
    report.raise_any()
    assert checked is not None, "data without problems are valid"
    return checked


def _message(error: Any, model: type[BaseModel]) -> str:
    if error["type"] != "extra_forbidden":
        return explain(error)
    *section, key = error["loc"]
    for part in section:
        if isinstance(part, str):
            model = next(sections_in(model.model_fields[part].annotation))
    return f"unknown key.{unknown(key, model.model_fields)}"
