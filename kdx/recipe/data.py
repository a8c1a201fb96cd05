"""The section `data` of a recipe: a data set, its augmentation, and how it is fed."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
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
    Range,
    Side,
    Workers,
)
from kdx.recipe.resuming import MAY_DIFFER, Resume
from kdx.recipe.sections import MOST, Section

_SINCE = "0.2.0"
_MIXED = Resume(since=_SINCE, absent=0.0)


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
    then: Annotated[list[InstanceOf[Component]], Field(max_length=MOST)] = Field(default=[])

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
