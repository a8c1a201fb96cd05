"""The keys of a study's file, with types and defaults.

title: SmallNet 7x7 on Fashion-MNIST
recipe: ../../fashion_mnist/resnet18_to_smallnet7_ck_fc_kd.yaml
overrides: {epochs: 20, data.limit: 4000}
seeds: [0, 1, 2, 3, 4]
arms: [compact, compact+kd, ck+fc, ck+fc+kd]
"""

import os
import re
from collections import Counter
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from kdx.recipe.errors import KeyPath, Report
from kdx.recipe.fields import Natural
from kdx.recipe.overrides import override
from kdx.recipe.wording import explain, show, unknown
from kdx.recipe.yaml_source import parse, read_mapping
from kdx.util.words import listed
from kdx_lab.tuning.space import parsed, whole

__all__ = ["Arm", "Setting", "Study", "Tune", "json_schema", "read_study"]

MOST = 1000  # seeds, arms and settings, each
MOST_RUNS = 10_000

_SECTION = ConfigDict(extra="forbid", frozen=True)

_HEADING = r"[\w .,:=%+-]{1,60}"
_RULE = "1 to 60 letters, digits, spaces and any of .,:=%+-"


def _heading(value: str) -> str:
    if not re.fullmatch(_HEADING, value):
        raise ValueError(f"{show(value)} is not a heading: {_RULE}")
    return value


Heading = Annotated[StrictStr, AfterValidator(_heading)]
"""The name of a setting or an arm, in tables and directories."""

_OF_THE_STUDY = {
    "name": "runs are named by the study: set `name:` at the top level instead",
    "seed": "the study sets the seeds: use `seeds:` at the top level instead",
}
"""Keys of a recipe that no override may set, and what to use instead."""

_OLD, _NEW = "alone", "losses_without_teacher"
"""A key of older studies, and its name today."""
_OLD_OVERRIDE = re.compile(rf"^(settings\.[^.=]+\.|){_OLD}([.=])")

Overrides = dict[StrictStr, Any]
"""Values by dotted key, as on the command line: `data.limit: 4000`."""

Value = StrictInt | StrictFloat | StrictBool | StrictStr
Axes = dict[StrictStr, Annotated[list[Value], Field(min_length=1, max_length=MOST)]]


def _space(given: dict[str, Any]) -> dict[str, Any]:
    for key, value in given.items():
        try:
            parsed(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return given


Space = Annotated[
    dict[StrictStr, StrictStr | list[Value]], AfterValidator(_space), BeforeValidator(whole)
]
"""What to search by dotted key: `optimizer.lr: log(1e-3, 1e-1)`, or a list of values."""


class Arm(BaseModel):
    """A way to train: `arm` is a built-in one, by default that of the same name.

    It may have its own recipe, and overrides, which are applied last; `space` adds to that of
    `tune`.
    """

    model_config = _SECTION
    arm: StrictStr = ""
    recipe: StrictStr = ""
    overrides: Overrides = {}
    space: Space = {}


class Tune(BaseModel):
    """A search for the values of each arm, by Optuna, on validation images.

    Each arm gets the same number of `trials`, with the first seed; `prune` ends those that are
    below the median of the earlier ones.
    """

    model_config = _SECTION
    trials: Annotated[Natural, Field(ge=1, le=MOST)]
    space: Space
    sampler: Literal["tpe", "random"] = "tpe"
    prune: StrictBool = True


class Setting(BaseModel):
    """A condition in which arms are compared, with its own table; `arms` lists its arms."""

    model_config = _SECTION
    recipe: StrictStr = ""
    overrides: Overrides = {}
    arms: Annotated[list[StrictStr], Field(min_length=1)] | None = None
    losses_without_teacher: list[dict[str, Any]] | None = None


class Study(BaseModel):
    """A grid of runs: settings x `grid` x arms x seeds, each made of a recipe.

    `baseline` is the arm that the others are compared with. With `errors`, tables show errors,
    1 - metric.
    """

    model_config = _SECTION
    name: StrictStr = ""
    title: StrictStr = ""
    description: StrictStr = ""
    recipe: StrictStr = ""
    overrides: Overrides = {}
    seeds: Annotated[list[Natural], Field(min_length=1, max_length=MOST)] = [0, 1, 2, 3, 4]
    arms: Annotated[dict[Heading, Arm], Field(min_length=1, max_length=MOST)]
    settings: Annotated[dict[Heading, Setting], Field(min_length=1, max_length=MOST)] = {
        "": Setting()
    }
    grid: Axes = {}
    tune: Tune | None = None
    losses_without_teacher: list[dict[str, Any]] = [{"use": "cross_entropy"}]
    baseline: StrictStr = "compact"
    errors: StrictBool = False


def read_study(path: str | os.PathLike[str], overrides: list[str] | None = None) -> Study:
    """Return the study in the YAML file at `path`, with `key=value` overrides of its own keys.

    Raises RecipeError with all its problems; its recipes are not read yet.
    """
    report = Report(os.fspath(path))
    data = read_mapping(Path(path), report, "a study is a mapping, with `recipe:` and `arms:`")
    if "student" in data and "arms" not in data:
        report.fail("this is a recipe, not a study: run it with `kdx distill`")
    if "settings" in data:
        data["settings"] = _filled(data["settings"])
    _rename_old_keys(data, report)
    _override(data, [_OLD_OVERRIDE.sub(rf"\1{_NEW}\2", text) for text in overrides or ()], report)
    if "arms" in data:
        data["arms"] = _arms(data["arms"], report)
    try:
        study = Study.model_validate(data)
    except ValidationError as invalid:
        for error in invalid.errors():
            *place, last = error["loc"]  # "[key]" where a name itself is wrong
            report.add(tuple(place) if last == "[key]" else error["loc"], _message(error))
        study = None
    if study:
        _check(study, report)
    report.raise_any()
    assert study is not None, "a study without problems is valid"
    return study.model_copy(update={"settings": _multiplied(study)})


def _multiplied(study: Study) -> dict[str, Setting]:
    """Return the settings, each with every combination of the grid's values."""
    found = {}
    for name, section in study.settings.items():
        for values in product(*study.grid.values()):
            overrides = dict(zip(study.grid, values, strict=True))
            parts = [name, *(f"{_axis(k, study.grid)} = {v}" for k, v in overrides.items())]
            heading = ", ".join(filter(None, parts))
            changed = {"overrides": {**section.overrides, **overrides}}
            found[heading] = section.model_copy(update=changed)
    return found


def _axis(key: str, grid: Axes) -> str:
    """Return the last part of a dotted key, or all of it if another axis has the same."""
    last = key.rpartition(".")[2]
    return key if sum(each.rpartition(".")[2] == last for each in grid) > 1 else last


def _rename_old_keys(data: dict[str, Any], report: Report) -> None:
    """Rename the key of older studies, at the top level and in settings; both are a problem."""
    settings = data.get("settings")
    named = settings.items() if isinstance(settings, dict) else ()
    for path, section in [((), data), *((("settings", name), each) for name, each in named)]:
        if isinstance(section, dict) and _OLD in section:
            old, new = (*path, _OLD), (*path, _NEW)
            if _NEW in section:
                report.add(old, f"is the old name of `{_NEW}`, which is given as well: remove one")
            section[_NEW] = section.pop(_OLD)
            report.locate(new, report.origin(old))


def _override(data: dict[str, Any], overrides: list[str], report: Report) -> None:
    """Set values of the study; below `overrides` a dotted key is a single key, as in the file."""
    for text in overrides:
        key, equals, value = text.partition("=")
        section, _, dotted = key.partition(".")
        below = data.setdefault(section, {}) if section == "overrides" and dotted else None
        if equals and isinstance(below, dict):
            path = (section, dotted)
            report.locate(path, text)
            below[dotted] = parse(value, report, path=path, origin=text)
        else:
            override(data, [text], report)


def _arms(given: Any, report: Report) -> Any:
    """Return arms by name: a list names built-in ones; an empty section has its defaults."""
    if isinstance(given, list):
        for index, name in enumerate(given):
            if not isinstance(name, str) or name in given[:index]:
                wrong = "is listed twice" if isinstance(name, str) else "is not the name of an arm"
                report.add(("arms", index), f"{show(name)} {wrong}")
            report.locate(("arms", str(name)), report.origin(("arms", index)))
        return {name: {} for name in given if isinstance(name, str)}
    return _filled(given)


def _filled(given: Any) -> Any:
    """Return sections by name, {} for an empty one; anything but a mapping unchanged."""
    if not isinstance(given, dict):
        return given
    return {name: {} if section is None else section for name, section in given.items()}


def _message(error: Any) -> str:
    if error["type"] != "extra_forbidden":
        return explain(error)
    *section, key = error["loc"]
    model = {"arms": Arm, "settings": Setting, "tune": Tune}.get(
        section[0] if section else "", Study
    )
    return f"unknown key.{unknown(key, model.model_fields)}"


def _check(study: Study, report: Report) -> None:
    """Report contradictions between the parts."""
    if study.baseline not in study.arms:
        default = "" if "baseline" in study.model_fields_set else ", the default,"
        known = unknown(study.baseline, study.arms)
        report.add(("baseline",), f"{show(study.baseline)}{default} is not an arm.{known}")
    if twice := [seed for seed, count in Counter(study.seeds).items() if count > 1]:
        report.add(("seeds",), f"{listed(list(map(str, twice)))}: listed twice")
    _check_overrides(("overrides",), study.overrides, report)
    for name, arm in study.arms.items():
        _check_overrides(("arms", name, "overrides"), arm.overrides, report)
    for setting, section in study.settings.items():
        _check_overrides(("settings", setting, "overrides"), section.overrides, report)
        for index, arm in enumerate(section.arms or ()):
            if arm not in study.arms:
                path = ("settings", setting, "arms", index)
                report.add(path, f"{show(arm)} is not an arm.{unknown(arm, study.arms)}")
        if not (study.recipe or section.recipe):
            path = ("settings", setting, "recipe") if setting else ("recipe",)
            report.add(path, "is missing: name the recipe that the arms are made of")
    _check_overrides(("grid",), study.grid, report)
    for heading in _multiplied(study) if study.grid else ():
        if not re.fullmatch(_HEADING, heading):
            report.add(("grid",), f"{show(heading)} is not a heading: {_RULE}")
    spaces = {("tune", "space"): study.tune.space} if study.tune else {}
    spaces |= {("arms", name, "space"): arm.space for name, arm in study.arms.items() if arm.space}
    for path, space in spaces.items():
        _check_overrides(path, space, report)
        if not study.tune:
            report.add(path, "without `tune:` nothing is searched: add it, or remove this")
    runs = (
        prod(map(len, study.grid.values()))
        * len(study.seeds)
        * sum(len(s.arms or study.arms) for s in study.settings.values())
    )
    if runs > MOST_RUNS:
        report.add(
            (), f"too many runs: settings x grid x arms x seeds is {runs:,}, at most {MOST_RUNS:,}"
        )


def _check_overrides(path: KeyPath, overrides: Overrides, report: Report) -> None:
    """Report overrides of keys that the study itself sets."""
    for key in overrides:
        if instead := _OF_THE_STUDY.get(key):
            report.add((*path, key), instead)
        elif "=" in key:
            report.add((*path, key), "a key cannot contain '='")


def json_schema() -> dict[str, Any]:
    """Return the JSON schema: arms may be a list of names, and any section may be empty."""
    schema = Study.model_json_schema()
    for name in ("arms", "settings"):
        sections = schema["properties"][name]
        empty = {"anyOf": [sections["additionalProperties"], {"type": "null"}]}
        schema["properties"][name] = sections | {"additionalProperties": empty}
    named = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    schema["properties"]["arms"] = {"anyOf": [named, schema["properties"]["arms"]]}
    return schema
