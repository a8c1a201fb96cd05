"""The keys of a study's file, with types and defaults.

title: SmallNet 7x7 on Fashion-MNIST
recipe: ../../fashion_mnist/resnet18_to_smallnet7_ck_fc_kd.yaml
overrides: {epochs: 20, data.limit: 4000}
seeds: [0, 1, 2, 3, 4]
arms: [compact, compact+kd, ck+fc, ck+fc+kd]
"""

import re
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
    ValidationInfo,
)

from kdx.recipe.fields import Natural
from kdx.recipe.wording import show
from kdx_lab.tuning.space import parsed, whole

__all__ = ["Arm", "Axes", "Overrides", "Setting", "Study", "Tune", "heading", "json_schema"]

MOST = 1000  # seeds, arms and settings, each
_SECTION = ConfigDict(extra="forbid", frozen=True)


def heading(value: str) -> str:
    """Return the name of a setting or an arm; ValueError if it cannot be one."""
    if not re.fullmatch(r"[\w .,:=%+-]{1,60}", value):
        rule = "1 to 60 letters, digits, spaces and any of .,:=%+-"
        raise ValueError(f"{show(value)} is not a heading: {rule}")
    return value


def _heading(value: str, info: ValidationInfo) -> str:
    return value if info.context == ANY_HEADING else heading(value)


ANY_HEADING = "any heading"  # the context in which names that have been reported are accepted
Heading = Annotated[StrictStr, AfterValidator(_heading)]
"""The name of a setting or an arm, in tables and directories."""

Overrides = dict[StrictStr, Any]
"""Values by dotted key, as on the command line: `data.limit: 4000`."""


def _scalar(given: object) -> object:
    if not isinstance(given, int | float | bool | str):
        raise ValueError(f"{show(given)}: values are numbers, true/false or strings")
    return given


Value = Annotated[StrictInt | StrictFloat | StrictBool | StrictStr, BeforeValidator(_scalar)]
Axes = dict[StrictStr, Annotated[list[Value], Field(min_length=1, max_length=MOST)]]


def _space(given: object) -> object:
    for value in given if isinstance(given, list) else ():
        _scalar(value)
    parsed(given)
    return given


Space = Annotated[
    dict[StrictStr, Annotated[StrictStr | list[Value], BeforeValidator(_space)]],
    BeforeValidator(whole),
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
    below the median of the earlier ones. `sampler`: "tpe" draws the first half (at least 4, at
    most 10) at random and then learns from all before, "qmc" is quasi-random, "random" neither.
    """

    model_config = _SECTION
    trials: Annotated[Natural, Field(ge=1, le=MOST)]
    space: Space
    sampler: Literal["tpe", "qmc", "random"] = "tpe"
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
