"""The sections of a recipe, with their types and defaults; `data.py` has that of the images.

A section with a `component` has a `use:` in the recipe, and any further keys there are its
arguments; `loading.py` gathers them before the schema sees them.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    Strict,
    StrictBool,
    model_validator,
)

from kdx.recipe.arguments import Component
from kdx.recipe.fields import (
    Count,
    Finite,
    OutputPath,
    Positive,
    Precision,
    RecipePath,
    either,
)
from kdx.recipe.resuming import MAY_DIFFER, Resume

MOST = 100
"""Losses, transforms and stages: each is built, and tried, before a run begins."""


class Section(BaseModel):
    """What is common to all: unknown keys are errors, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputOverride(Section):
    """How a teacher's images are normalised and sized, if its weights do not say."""

    mean: Annotated[list[Finite], Field(min_length=1, max_length=64)] | None = None
    std: Annotated[list[Positive], Field(min_length=1, max_length=64)] | None = None
    size: Annotated[Count, Field(le=4096)] | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.mean and self.std and (means := len(self.mean)) != (stds := len(self.std)):
            raise ValueError(f"{means} means, but {stds} stds: give one of each per channel")
        return self


class MemoSection(Section):
    """Remember the teacher's outputs for `views` views of each sample.

    `top` keeps that many logits of each, `limit` is in GB; `directory` holds all memos, by
    default `memos` below the output root.
    """

    views: Count
    dtype: Literal["float16", "float32"] = "float16"
    top: Count | None = None
    limit: Annotated[Positive, MAY_DIFFER] = 10.0
    directory: Annotated[OutputPath | None, MAY_DIFFER] = None


class WeightFile(Section):
    """Weights that are not all of a file, or not all of a network.

    `key` is where in the file they are, dotted (`model_ema`, `state_dict.student`). `head: new`
    loads everything except what depends on the number of classes, which starts at random.
    """

    path: OutputPath
    key: Annotated[str, Strict()] | None = None
    head: Literal["new"] | None = None

    @property
    def short(self) -> "str | WeightFile":
        """Weights without key and head as their path."""
        return self.path if self.key is None and not self.head else self


Weights = Annotated[OutputPath | WeightFile | None, either(WeightFile, OutputPath)]


class Network(Section):
    """A network, and the weights that it starts from: a path, or a part of a file."""

    component: InstanceOf[Component]
    weights: Weights = None

    @property
    def file(self) -> WeightFile | None:
        """The weights as a part of a file, which may be all of it."""
        given = self.weights
        return WeightFile.model_construct(path=given) if isinstance(given, str) else given


class Teacher(Network):
    """A frozen network to learn from; `recipe` trains its weights if they are missing.

    Without `memo`, outputs are remembered if the views never change; `memo: false` prevents that.
    `precision` is what it runs in, by default as the run.
    """

    weights: Annotated[Weights, MAY_DIFFER] = None
    recipe: Annotated[RecipePath | None, MAY_DIFFER] = None
    allow_chance: Annotated[StrictBool, MAY_DIFFER] = False
    input: InputOverride | None = None
    precision: Annotated[Precision | None, Resume(since="0.2.0", absent=None)] = None
    memo: Annotated[MemoSection | Literal[False] | None, either(MemoSection, off=(None, False))] = (
        None
    )


def _named(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,99}", value):
        raise ValueError(f"{value!r} is not a name: letters, digits, '_' and '-'")
    return value


Teachers = Annotated[dict[Annotated[str, AfterValidator(_named)], Teacher], Field(max_length=MOST)]


class Student(Network):
    """The network to train, from `weights` where given, and what holds during training only."""

    transforms: Annotated[
        list[InstanceOf[Component]], Field(max_length=MOST), Resume(arguments=("pointwise",))
    ] = []  # the tensors of the student are compared, too


def _each_once(value: list[Component]) -> list[Component]:
    used = [each.use for each in value]
    if twice := next((use for use in used if used.count(use) > 1), None):
        raise ValueError(f"{twice!r} is there twice: a run has one tracker of each name")
    return value


Trackers = Annotated[
    list[InstanceOf[Component]], Field(max_length=MOST), AfterValidator(_each_once)
]


class Tolerance(Section):
    """What the compact student may differ by from the trained one, of the largest logit."""

    float32: Positive = 1e-4
    float64: Positive = 1e-9
