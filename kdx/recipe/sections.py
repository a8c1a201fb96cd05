"""The sections of a recipe, with their types and defaults.

A section with a `component` has a `use:` in the recipe, and any further keys there are its
arguments; `loading.py` gathers them before the schema sees them.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    Strict,
    StrictBool,
    field_serializer,
    model_validator,
)

from kdx.recipe.arguments import Component
from kdx.recipe.fields import (
    Beta,
    Count,
    Factors,
    Finite,
    HeldOut,
    Limit,
    Natural,
    OutputPath,
    Positive,
    Precision,
    Range,
    RecipePath,
    Side,
    Workers,
    either,
)
from kdx.recipe.resuming import MAY_DIFFER, Resume

MOST = 100
"""Losses, transforms and stages: each is built, and tried, before a run begins."""


class Section(BaseModel):
    """What is common to all: unknown keys are errors, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Augment(Section):
    """Random changes to the training images.

    `crop`: pixels of zero padding on each side, from which a window of the image's own size is
    cropped. `flip`: mirror every other image left to right. `resized_crop`: for files, crop this
    range of the image's area and resize it (Szegedy et al. 2015; sides 3:4 to 4:3).

    For images with boxes or masks: `scale`, enlarge or shrink the image by a factor in this range
    and place it at random; `window`, train on a random part of so many pixels a side, or (height,
    width) (masks); `color`, in [0, 1], change brightness, contrast and saturation by up to this
    share, and the hue by a quarter of it; `sizes`, resize each batch to one of these sides
    (multi-scale training, Redmon & Farhadi 2016, section 3; boxes).

    `then`, instead of all these except `window` and `sizes`: torchvision's transforms (v2) or a
    plug-in's, in order; in a recipe, a list in place of this section. Raises ValueError for values
    out of range, for both kinds of crop, and for `then` beside others.
    """

    crop: Annotated[Natural, Field(le=1024)] = 0
    flip: StrictBool = False
    resized_crop: Range | None = None
    scale: Factors | None = None
    window: Side | tuple[Side, Side] | None = None
    color: Annotated[Finite, Field(ge=0, le=1)] = 0.0
    sizes: Annotated[tuple[Side, ...], Field(max_length=MOST)] = ()
    then: Annotated[list[InstanceOf[Component]], Field(max_length=MOST)] = []

    @model_validator(mode="after")
    def _check_crops(self) -> Self:
        if self.crop and self.resized_crop:
            raise ValueError("use crop or resized_crop, not both")
        others = [name for name in self.changes if name not in ("then", "window", "sizes")]
        if self.then and others:
            raise ValueError(
                f"use the list or {', '.join(others)}, not both: in the list they are RandomCrop, "
                "RandomHorizontalFlip, RandomResizedCrop, ColorJitter"
            )
        return self

    @property
    def changes(self) -> list[str]:
        """The names of the changes that are asked for."""
        fields = type(self).model_fields.items()
        return [name for name, field in fields if getattr(self, name) != field.default]

    @field_serializer("then")
    def _as_in_recipes(self, then: list[Component]) -> list[dict[str, Any]]:
        return [{"use": each.use, **each.arguments} for each in then]


def _listed(value: object) -> object:
    if value is None or value == "none":
        return {}
    return {"then": value} if isinstance(value, list) else value


_SINCE = "0.2.0"
_MIXED = Resume(since=_SINCE, absent=0.0)


class Data(Section):
    """A data set and how it is fed. `batch_size` is global, over all processes.

    `validation` is the share or the number of training images that are held out, `label_noise` the
    share of the others whose label is drawn at random. `limit` is of each part, or by its name.
    `mixup` and `cutmix` are the parameters of Beta, 0 for none: see `kdx.data.mixing`. `repeats` is
    the number of views of each sample that is in an epoch, which then has fewer samples. Balanced
    `sampling` shows each class as often in an epoch: see `kdx.data.EpochBatches`. `workers` are of
    the data loader: a number, or "auto", see `kdx.training.workers`.
    """

    component: Annotated[InstanceOf[Component], Resume(arguments=("root",))]
    batch_size: Count = 128
    augment: Annotated[
        Augment,
        BeforeValidator(
            _listed, json_schema_input_type=Augment | list[InstanceOf[Component]] | None
        ),
    ] = Augment()
    mixup: Annotated[Beta, _MIXED] = 0.0
    cutmix: Annotated[Beta, _MIXED] = 0.0
    repeats: Annotated[Count, Field(le=MOST), Resume(since=_SINCE, absent=1)] = 1
    sampling: Annotated[
        Literal["shuffled", "balanced"], Resume(since=_SINCE, absent="shuffled")
    ] = "shuffled"
    limit: Limit = None
    validation: HeldOut = None
    label_noise: Annotated[Finite, Field(ge=0, le=1), Resume(since="0.1.0", absent=0.0)] = 0.0
    workers: Annotated[Workers, MAY_DIFFER] = 0

    @property
    def fixed_workers(self) -> int:
        """The number of workers, 0 if a trial at the start of a run chooses it."""
        return 0 if self.workers == "auto" else self.workers


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
    precision: Annotated[Precision | None, Resume(since=_SINCE, absent=None)] = None
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
