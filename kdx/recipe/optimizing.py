"""What a recipe says of optimizing besides name and arguments: groups, clipping, averages."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, InstanceOf, Strict, model_validator

from kdx.recipe.arguments import Component
from kdx.recipe.fields import Finite, Positive, either
from kdx.recipe.resuming import Resume
from kdx.recipe.sections import MOST, Section

_Pattern = Annotated[str, Strict(), Field(min_length=1, max_length=500)]
_LARGEST = 1e30  # as of the learning rate
_Value = Annotated[Finite, Field(ge=0, le=_LARGEST)]
_Scale = Annotated[Finite, Field(gt=0, le=_LARGEST)]
_Share = Annotated[Finite, Field(gt=0, le=1)]
_Decay = Literal["factors", "product"]


class ParameterGroup(Section):
    """Parameters of the student whose name matches a glob pattern, with values of their own.

    Raises ValueError if it sets nothing.
    """

    match: _Pattern
    lr: _Value | None = None
    weight_decay: _Value | None = None

    @model_validator(mode="after")
    def _check_set(self) -> Self:
        if self.lr is None and self.weight_decay is None:
            raise ValueError(f"{self.match!r} sets nothing: give lr, weight_decay or both")
        return self


class Optimizer(Section):
    """An optimizer, and which parameters of the student have values of their own.

    Names are those of the compact student. `no_decay`: no weight decay for these kinds ("norm",
    "bias") or patterns. `layer_decay`: the learning rate times this for each layer below the last
    (Clark et al. 2020; BEiT). `groups` override both; of several that match, the last one that
    gives a value wins. Of layers that a transform computes from factors (ExpandNet, OREPA,
    DO-Conv): `factor_lr` times the learning rate is that of the factors; `decay`: weight decay is
    of the "factors", or L2 of their "product".
    """

    component: InstanceOf[Component]
    no_decay: list[_Pattern] = Field([], max_length=MOST)
    groups: list[ParameterGroup] = Field([], max_length=MOST)
    layer_decay: Annotated[_Share | None, Resume(since="0.2.0", absent=None)] = None
    factor_lr: Annotated[_Scale, Resume(since="0.2.0", absent=1.0)] = 1.0
    decay: Annotated[_Decay, Resume(since="0.2.0", absent="factors")] = "factors"

    @property
    def has_groups(self) -> bool:
        """Whether any parameter may have values of its own."""
        simple = not (self.no_decay or self.groups or self.layer_decay)
        return not (simple and self.factor_lr == 1 and self.decay == "factors")


class Clip(Section):
    """How gradients are clipped to `at`.

    By the "norm" of all; by "value", each number; or "adaptive", each row of a weight relative to
    the norm of the row.
    """

    by: Literal["norm", "value", "adaptive"]
    at: Positive

    @property
    def short(self) -> "float | Clip":
        """A norm as its number."""
        return self.at if self.by == "norm" else self


def _limited(given: object) -> object:
    if given in ("norm", "value", "adaptive"):
        at = {"norm": 1, "value": 0.5, "adaptive": 0.01}[str(given)]
        raise ValueError(f"{given!r} needs a limit: {{by: {given}, at: {at}}}")
    return given


Clipping = Annotated[Positive | Clip | None, either(Clip, Positive), BeforeValidator(_limited)]


AVERAGES = {
    "ema": ("A moving average of the compact weights.", {"decay": 0.9998, "start": 0.0}),
    "swa": ("The mean of the compact weights at the epochs' ends.", {"start": 0.75}),
}
"""What an average is, and its defaults."""


class Average(Section):
    """An average of the student's compact weights, beside the student; the better is exported.

    `ema`: moving, after each step, with `decay`, by default 0.9998. `swa`: of the epochs' ends,
    equally (Izmailov et al. 2018). Both from epoch `start` of the run on, counted from 0; below 1
    it is a share of its epochs. By default `ema` averages from the first step, `swa` the last
    quarter. ValueError for a decay of `swa`.
    """

    use: Literal["ema", "swa"]
    decay: Annotated[Finite, Field(gt=0, lt=1)] | None = None
    start: Annotated[Finite, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        if self.use == "swa" and self.decay is not None:
            raise ValueError("swa weighs all epochs equally: remove `decay`, or use ema")
        return self

    def follows(self, epoch: int, epochs: int) -> bool:
        """Return whether an epoch of the run, counted from 0 of `epochs`, is averaged."""
        start = AVERAGES[self.use][1]["start"] if self.start is None else self.start
        return epoch >= (int(start * epochs) if start < 1 else start)  # so a share has an epoch
