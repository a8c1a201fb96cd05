"""A study's file: everything that it may say, with types and defaults.

title: SmallNet 7x7 on Fashion-MNIST
recipe: ../../fashion_mnist/resnet18_to_smallnet7_ck_fc_kd.yaml
overrides: {epochs: 20, data.limit: 4000}
seeds: [0, 1, 2, 3, 4]
arms: [compact, compact+kd, ck+fc, ck+fc+kd]
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
)

from kdx.recipe.errors import Report
from kdx.recipe.fields import Natural
from kdx.recipe.overrides import override
from kdx.recipe.reading import read_mapping
from kdx.recipe.wording import explain, show, unknown

__all__ = ["Arm", "Setting", "Study", "read_study"]

MOST = 1000  # seeds, arms and settings, each

_SECTION = ConfigDict(extra="forbid", frozen=True)

_HEADING = r"[\w .,:=%+-]{1,60}"


def _heading(value: str) -> str:
    if not re.fullmatch(_HEADING, value):
        rule = "1 to 60 letters, digits, spaces and any of .,:=%+-"
        raise ValueError(f"{show(value)} is not a heading: {rule}")
    return value


Heading = Annotated[StrictStr, AfterValidator(_heading)]
"""What a setting or an arm is called in tables, and its directory, in plain letters."""

Overrides = dict[StrictStr, Any]
"""Values by dotted key, as on the command line: `data.limit: 4000`."""


class Arm(BaseModel):
    """A way to train: `arm` is a built-in one, by default that of the same name.

    It may bring a recipe of its own, and overrides, which come last.
    """

    model_config = _SECTION
    arm: StrictStr = ""
    recipe: StrictStr = ""
    overrides: Overrides = {}


class Setting(BaseModel):
    """What the arms are compared in: a table of its own. `arms` names those that it has."""

    model_config = _SECTION
    recipe: StrictStr = ""
    overrides: Overrides = {}
    arms: Annotated[list[StrictStr], Field(min_length=1)] | None = None
    alone: list[dict[str, Any]] | None = None


class Study(BaseModel):
    """A grid of runs: settings x arms x seeds, each made of a recipe.

    `alone` are the losses of arms without a teacher. `baseline` is the arm that the others are
    compared with. With `errors` tables speak of errors, 1 - metric.
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
    alone: list[dict[str, Any]] = [{"use": "cross_entropy"}]
    baseline: StrictStr = "compact"
    errors: StrictBool = False


def read_study(path: str | os.PathLike[str], overrides: list[str] | None = None) -> Study:
    """Return the study in the YAML file at `path`, with `key=value` overrides of its own keys.

    Raises RecipeError with all that is wrong with it; its recipes are not read yet.
    """
    report = Report(os.fspath(path))
    data = read_mapping(Path(path), report, "a study is a mapping, with `recipe:` and `arms:`")
    override(data, overrides or [], report)
    if isinstance(data.get("arms"), list):  # names of built-in arms
        data["arms"] = {str(name): {} for name in data["arms"]}
    if isinstance(data.get("arms"), dict):
        data["arms"] = {k: {} if v is None else v for k, v in data["arms"].items()}
    try:
        study = Study.model_validate(data)
    except ValidationError as invalid:
        for error in invalid.errors():
            report.add(tuple(p for p in error["loc"] if p != "[key]"), _message(error))
        study = None
    if study:
        _check(study, report)
    report.raise_any()
    assert study is not None, "a study without problems is valid"
    return study


def _message(error: Any) -> str:
    if error["type"] != "extra_forbidden":
        return explain(error)
    *section, key = error["loc"]
    model = {"arms": Arm, "settings": Setting}.get(section[0] if section else "", Study)
    return f"unknown key.{unknown(key, model.model_fields)}"


def _check(study: Study, report: Report) -> None:
    """Report what is wrong between the parts."""
    if study.baseline not in study.arms:
        report.add(
            ("baseline",), f"{show(study.baseline)} is no arm.{unknown(study.baseline, study.arms)}"
        )
    if len(set(study.seeds)) < len(study.seeds):
        report.add(("seeds",), f"{study.seeds} names a seed twice")
    for setting, section in study.settings.items():
        for index, arm in enumerate(section.arms or ()):
            if arm not in study.arms:
                path = ("settings", setting, "arms", index)
                report.add(path, f"{show(arm)} is no arm.{unknown(arm, study.arms)}")
        if not (study.recipe or section.recipe):
            path = ("settings", setting, "recipe") if setting else ("recipe",)
            report.add(path, "is missing: the recipe that the arms are made of")
