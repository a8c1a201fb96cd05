"""Reading a recipe: file, overrides, components, schema; all problems at once."""

import copy
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kdx.recipe.arguments import Component, check, parameters_of
from kdx.recipe.data import Data
from kdx.recipe.errors import KeyPath, Report, dotted
from kdx.recipe.optimizing import Optimizer
from kdx.recipe.overrides import override
from kdx.recipe.paths import Locations
from kdx.recipe.registry import allowed_modules, resolve
from kdx.recipe.relations import born_again, check_memos, check_paths, check_relations
from kdx.recipe.schema import Recipe
from kdx.recipe.sections import Student, Teacher
from kdx.recipe.stages import LossTerm
from kdx.recipe.wording import explain, show
from kdx.recipe.yaml_source import LARGEST, WRITTEN_OUT, parse, read_mapping

Section = TypeVar("Section", bound=BaseModel)

_DEFAULTS = {
    "losses": [{"use": "cross_entropy"}],
    "optimizer": {"use": "SGD", "lr": 0.01, "momentum": 0.9},
    "schedule": {"use": "constant"},
    "trackers": ["tensorboard"],
}
"""The sections with a `use:` that have a default."""

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

    `plugins` are modules, besides those of kdx, that `use:` may name. Runs are
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
    allowed = allowed_modules(locations.plugins)
    if "optimizer" not in given:
        _leave_momentum(data["optimizer"], allowed, report)
    check_relations(data, report)
    check_paths(data, report)
    check_memos(data, locations, report)
    born_again(data)
    bound = _Binder(allowed, report).recipe(data)
    locations = locations if report.overridden(("name",)) else locations.found()
    recipe = _checked(Recipe, bound, locations, report)
    _check_readable(recipe, report)
    return recipe


def _leave_momentum(section: Any, allowed: Iterable[str], report: Report) -> None:
    """Take the default's momentum away where an override names an optimizer that has none."""
    named, kept = (report.overridden(("optimizer", key)) for key in ("use", "momentum"))
    if isinstance(section, dict) and named and not kept:
        with suppress(ValueError):  # which is told later
            parameters, takes_any = parameters_of(resolve(section["use"], "optimizer", allowed))
            if "momentum" not in parameters and not takes_any:
                section.pop("momentum", None)


def _check_readable(recipe: Recipe, report: Report) -> None:
    """Raise RecipeError if the recipe of a run, with its defaults written out, cannot be read."""
    text, own = recipe.portable_yaml(), Report(report.file)
    if len(text.encode()) > (most := LARGEST * WRITTEN_OUT):
        report.fail(f"with its defaults written out it is larger than {most // 1024} kB")
    parse(text, own, times=WRITTEN_OUT)
    for problem in own.problems:
        report.fail(f"with its defaults written out it cannot be read: {problem.message}")


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
            report.add((*at, *path), explain(error, model))
    report.raise_any()
    assert checked is not None, "data without problems are valid"
    return checked


class _Binder:
    """Replaces the mappings that describe components by the components.

    Names resolve into the modules `allowed`; problems go to `report`. What should be a mapping or
    a list and is not is left for the schema to refuse.
    """

    def __init__(self, allowed: Collection[str], report: Report) -> None:
        self._allowed, self._report = allowed, report

    def recipe(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return `data` with components, as `schema.Recipe` takes it; `~/` is the home folder."""
        data = _at_home(data)
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
        """Bind a tracker, which may be just its name."""
        return self._component({"use": data} if isinstance(data, str) else data, path, "tracker")

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


def _at_home(data: Any) -> Any:
    """Return data with every text that begins with `~/` as a path."""
    if isinstance(data, dict):
        return {key: _at_home(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_at_home(value) for value in data]
    return os.path.expanduser(data) if isinstance(data, str) and data.startswith("~/") else data


def _each(data: dict[str, Any], key: str, path: KeyPath, bind: Any) -> dict[str, Any]:
    """Return the list `key` of `data` with `bind` applied to its entries, if there is a list."""
    entries = data.get(key)
    if not isinstance(entries, list):
        return {}
    return {key: [bind(entry, (*path, key, index)) for index, entry in enumerate(entries)]}
