"""Reading a recipe: file, overrides, components, schema; all problems at once."""

import copy
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kdx.recipe.arguments import Component, check
from kdx.recipe.errors import KeyPath, Report, dotted
from kdx.recipe.optimizing import Optimizer
from kdx.recipe.overrides import override
from kdx.recipe.paths import Locations, is_run
from kdx.recipe.registry import allowed_modules, resolve
from kdx.recipe.resuming import sections_in
from kdx.recipe.schema import Recipe
from kdx.recipe.sections import Data, Student, Teacher
from kdx.recipe.stages import LossTerm
from kdx.recipe.wording import explain, show, unknown
from kdx.recipe.yaml_source import read_mapping

Section = TypeVar("Section", bound=BaseModel)

_DEFAULTS = {
    "losses": [{"use": "cross_entropy"}],
    "optimizer": {"use": "SGD", "lr": 0.01, "momentum": 0.9},
    "schedule": {"use": "constant"},
    "trackers": ["tensorboard"],
}
"""The sections with a `use:` that have a default."""

EMA = "ema"  # as a teacher: see `kdx.models.average`

_SECTIONS = {
    "data": ("dataset", Data),
    "teacher": ("network", Teacher),
    "student": ("network", Student),
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
    rule = "a recipe is a mapping, with `data:` and `student:`"
    given = read_mapping(locations.file, report, rule) if given is None else given
    data = copy.deepcopy(_DEFAULTS | dict(given))
    if "arms" in data and "student" not in data:
        report.fail("this is a study, not a recipe: run it with `kdx study`")
    override(data, overrides, report)
    _check_relations(data, report)
    _check_memo(data, locations, report)
    _born_again(data)
    bound = _Binder(allowed_modules(locations.plugins), report).recipe(data)
    locations = locations if report.overridden(("name",)) else locations.found()
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
    bound = _Binder(allowed_modules(plugins), report).recipe(data)["student"]
    return _checked(Student, bound, Locations(Path(), Path("runs")), report, ("student",))


def _get(data: Any, *keys: str | int) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _check_relations(data: dict[str, Any], report: Report) -> None:
    """Report what is wrong between sections, whether or not each is right in itself."""
    if data.get("select") == "best" and not _get(data, "data", "validation"):
        report.add(("select",), "'best' needs `data.validation`, images to choose the epoch by")
    if data.get("patience") and not _get(data, "data", "validation"):
        report.add(("patience",), "needs `data.validation`, images to measure an improvement on")
    for path, teacher in _teachers(data):
        if teacher.get("recipe") and not teacher.get("weights"):
            report.add((*path, "recipe"), "needs `weights:`, the run directory that it fills")
        for key in ("weights", "recipe", "memo", "input") if teacher.get("use") == EMA else ():
            if teacher.get(key):
                report.add((*path, key), "not for the student's moving average (ema): remove it")
    if _get(data, "student", "use") == EMA:
        report.add(("student", "use"), "'ema' is a teacher, the student's own moving average")
    if data.get("teacher") and data.get("teachers"):
        report.add(("teachers",), "name all teachers here, or have one, in `teacher:`")
    stages = data["stages"] if isinstance(data.get("stages"), list) else []
    parts = [((), data), *((("stages", index), stage) for index, stage in enumerate(stages))]
    for path, part in parts if data.get("teacher") or data.get("teachers") else ():
        _check_taught(part, path, data.get("teachers"), report)
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


def _check_taught(part: Any, path: KeyPath, teachers: Any, report: Report) -> None:
    """Report losses of a recipe or a stage that name teachers which there are not."""
    losses = _get(part, "losses")
    for index, term in enumerate(losses if isinstance(losses, list) else ()):
        given = _get(term, "teacher")
        for name in given if isinstance(given, dict) else [given] * isinstance(given, str):
            if not isinstance(teachers, dict) or name not in teachers:
                known = unknown(str(name), teachers) if isinstance(teachers, dict) else ""
                message = f"{show(name)} is not one of `teachers:`.{known}"
                report.add((*path, "losses", index, "teacher"), message)


def _teachers(data: dict[str, Any]) -> list[tuple[KeyPath, dict[str, Any]]]:
    """Return the sections of teachers that are mappings, with their places."""
    several = data.get("teachers")
    named = several.items() if isinstance(several, dict) else ()
    found = [(("teacher",), data.get("teacher")), *((("teachers", n), each) for n, each in named)]
    return [(path, each) for path, each in found if isinstance(each, dict)]


def _born_again(data: dict[str, Any]) -> None:
    """Replace `use: student` of teachers by the student's network and its arguments."""
    student = data.get("student")
    own = {"use", "weights", "transforms"}
    for _, teacher in _teachers(data):
        if teacher.get("use") == "student" and isinstance(student, dict):
            shared = {key: value for key, value in student.items() if key not in own}
            teacher |= {**shared, **teacher, "use": student.get("use")}


def _check_memo(data: dict[str, Any], locations: Locations, report: Report) -> None:
    """Report memos outside the output root, unless an override asks for them there.

    A recipe may be from elsewhere; the command line is the user's own.
    """
    for path, _ in _teachers(data):
        _check_memo_of(data, (*path, "memo", "directory"), locations, report)


def _check_memo_of(
    data: dict[str, Any], path: KeyPath, locations: Locations, report: Report
) -> None:
    given = _get(data, *path) or "runs/memos"
    asked = report.overridden(path) and _get(data, *path)
    wanted = isinstance(_get(data, *path[:-1]), dict) and isinstance(given, str)
    if wanted and not (asked or locations.holds(given)):
        root = locations.output_root
        message = f"{show(given)} is outside the output root {root}, where recipes may write"
        report.add(path, f"{message}: set it on the command line, {dotted(path)}=...")
    elif wanted:
        place = Path(locations.output(given)).absolute()
        if inside := next(filter(is_run, (place, *place.parents)), None):
            message = f"{show(given)} lies in a run, {inside}, and would be removed with it"
            report.add(path, f"{message}: choose another directory")


def _checked(
    model: type[Section], bound: Any, locations: Locations, report: Report, at: KeyPath = ()
) -> Section:
    """Return `bound`, what is at `at`, as a `model`; raise RecipeError with all problems."""
    checked = None
    try:
        checked = model.model_validate(bound, context=locations)
    except ValidationError as invalid:
        for error in invalid.errors():
            path = (part for part in error["loc"] if part != "[key]")  # of a mapping's key
            report.add((*at, *path), _message(error, model))
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
    known = [field.alias or name for name, field in model.model_fields.items()]
    return f"unknown key.{unknown(key, known)}"


class _Binder:
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
        if isinstance(images := bound.get("data"), dict):
            bound["data"] = images | self._augment(images)
        if isinstance(several := data.get("teachers"), dict):
            bound["teachers"] = {
                name: self._section(each, ("teachers", name), "network", Teacher)
                for name, each in several.items()
            }
        if isinstance(student := bound.get("student"), dict):
            bind = partial(self._component, kind="transform")
            bound["student"] = student | _each(student, "transforms", ("student",), bind)
        bound |= _each(data, "trackers", (), self._tracker)
        return bound | _each(data, "stages", (), self._training)

    def _augment(self, data: dict[str, Any]) -> dict[str, Any]:
        """Bind the augmentations of `data:`, a list or in a mapping's `then`."""
        bind, given = partial(self._component, kind="augmentation"), data.get("augment")
        if not isinstance(given, dict):
            return _each(data, "augment", ("data",), bind)
        return {"augment": given | _each(given, "then", ("data", "augment"), bind)}

    def _training(self, data: Any, path: KeyPath) -> Any:
        """Bind what both the recipe and its stages have."""
        if not isinstance(data, dict):
            return data
        bound = {}
        if "optimizer" in data:
            at, kind = (*path, "optimizer"), "optimizer"
            bound["optimizer"] = self._section(data["optimizer"], at, kind, Optimizer)
        if "schedule" in data:
            bound["schedule"] = self._component(data["schedule"], (*path, "schedule"), "schedule")
        bind = partial(self._section, kind="loss", model=LossTerm)
        return data | bound | _each(data, "losses", path, bind)

    def _tracker(self, data: Any, path: KeyPath) -> Any:
        """Bind a tracker, which may be its name alone."""
        named = {"use": data} if isinstance(data, str) else data
        return self._component(named, path, "tracker")

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
        overridden = filter(self._report.overridden, ((*path, name) for name in arguments))
        changed = dict.fromkeys(map(self._report.place, overridden))
        if overrides := ", ".join(each for each in changed if each != place):
            place = f"{overrides} of {place}"
        return Component(kind, str(use), arguments, factory or dict, place, dotted(path))


def _each(data: dict[str, Any], key: str, path: KeyPath, bind: Any) -> dict[str, Any]:
    """Return the list `key` of `data` with `bind` applied to its entries, if there is a list."""
    entries = data.get(key)
    if not isinstance(entries, list):
        return {}
    return {key: [bind(entry, (*path, key, index)) for index, entry in enumerate(entries)]}
