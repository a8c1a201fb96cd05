"""The kinds of values that a recipe holds, and how each is checked."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationInfo,
)

from kdx.recipe.paths import Locations
from kdx.recipe.wording import show

LARGEST_FACTOR = 100
MOST_SAMPLES = 10**12
PARTS = {"train", "validation", "test"}


def _by(method: Callable[[Locations, Any], Any]) -> AfterValidator:
    """Return a validator that applies a method of the recipe's locations."""

    def validate(value: Any, info: ValidationInfo) -> Any:
        assert isinstance(info.context, Locations), "a recipe comes from `load`"
        return method(info.context, value)

    return AfterValidator(validate)


def either(model: type[BaseModel], plain: Any = None, *, off: Sequence[Any] = (None,)) -> Any:
    """Return a validator for a field that holds a `model`, or a value of the type `plain`.

    It validates the one that is given, so that errors name no branch of a union; `off` pass. What
    the plain value says, too, becomes that: the `short` of the model.
    """
    adapter = TypeAdapter(plain) if plain else None

    def validate(value: object, info: ValidationInfo) -> object:
        if any(value is each for each in off):
            return value
        if adapter and not isinstance(value, Mapping | model):
            return adapter.validate_python(value, context=info.context)
        made = model.model_validate(value, context=info.context)
        return getattr(made, "short", made)

    return BeforeValidator(validate)


def _label(value: str) -> str:
    if not re.fullmatch(r"[\w .+-]{0,100}", value):
        rule = "at most 100 letters, digits, spaces, '.', '_', '+' and '-'"
        raise ValueError(f"{show(value)} is not a name: {rule}")
    return value


def _up_to(largest: int, value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= largest:
        rule = f"[low, high] with 0 < low <= high <= {largest}"
        raise ValueError(f"{show(list(value))} is not {rule}")
    return value


def _beta(value: float) -> float:
    if value and not 1e-3 <= value <= 1e3:
        raise ValueError(f"{show(value)} is neither 0 nor from 0.001 to 1000, a parameter of Beta")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _workers(value: Any) -> Any:
    if value != "auto" and not (type(value) is int and 0 <= value <= 256):
        raise ValueError(f"{show(value)} is neither 'auto' nor a whole number from 0 to 256")
    return value


def _held_out(value: Any) -> Any:
    share = isinstance(value, float) and 0 < value < 1
    if not (value is None or share or _is_count(value)):
        raise ValueError(f"{show(value)} is neither a share between 0 and 1 nor a number of images")
    return value


def _limit(value: Any) -> Any:
    parts = value if isinstance(value, dict) else {"train": value}
    valid = parts and all(map(_is_count, parts.values())) and PARTS.issuperset(parts)
    if value is not None and not valid:
        rule = "for each split or as {train: 2000, validation: 500, test: 1000}"
        raise ValueError(f"{show(value)} is not a number of samples, {rule}")
    if value is not None and max(parts.values()) > MOST_SAMPLES:
        raise ValueError(f"{show(value)} should be at most {MOST_SAMPLES:,}")
    return value


def _teacher_shares(value: Any) -> Any:
    shares = value if isinstance(value, dict) else {}
    are_shares = all(
        isinstance(share, int | float) and not isinstance(share, bool) and 0 < share < inf
        for share in shares.values()
    )
    if not (value is None or (isinstance(value, str) and value) or (shares and are_shares)):
        rule = "the name of a teacher, nor a share above 0 for each, {big: 2, small: 1}"
        raise ValueError(f"{show(value)} is neither {rule}")
    return value


Count = Annotated[int, Strict(), Field(ge=1, le=10**6)]
Limit = Annotated[int | dict[str, int] | None, PlainValidator(_limit)]
TeacherShares = Annotated[str | dict[str, float] | None, PlainValidator(_teacher_shares)]
Precision = Literal["no", "bf16", "fp16"]
Natural = Annotated[int, Strict(), Field(ge=0, le=2**63 - 1)]
Finite = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Positive = Annotated[Finite, Field(gt=0)]
_WORKERS = Annotated[int, Field(ge=0, le=256)] | Literal["auto"]
Workers = Annotated[
    int | Literal["auto"], PlainValidator(_workers, json_schema_input_type=_WORKERS)
]
HeldOut = Annotated[float | int | None, PlainValidator(_held_out)]
Range = Annotated[tuple[Finite, Finite], AfterValidator(partial(_up_to, 1))]
Factors = Annotated[tuple[Finite, Finite], AfterValidator(partial(_up_to, LARGEST_FACTOR))]
Beta = Annotated[Finite, AfterValidator(_beta)]
Side = Annotated[int, Strict(), Field(ge=1, le=16_384)]
Label = Annotated[str, Strict(), AfterValidator(_label)]
_EMPTY = BeforeValidator(lambda value: "" if value is None else value)
Name = Annotated[Label, _EMPTY]
RunName = Annotated[str, Strict(), _EMPTY, _by(Locations.name)]
OutputPath = Annotated[str, Strict(), Field(min_length=1), _by(Locations.output)]
RecipePath = Annotated[Path, _by(Locations.recipe)]
