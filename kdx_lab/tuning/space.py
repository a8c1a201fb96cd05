"""The space of a search, as a study's file has it: `log(1e-3, 1e-1)`, `[adam, sgd]`."""

import re
from dataclasses import dataclass
from math import isfinite

__all__ = ["Range", "parsed", "whole"]

RULE = "log(low, high), uniform(low, high), int(low, high), or a list of 2 or more values"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; of the kinds "log", "uniform", and "int" (whole numbers)."""

    kind: str
    low: float
    high: float


def parsed(given: object) -> Range | tuple[object, ...]:
    """Return a range, or the values of a list; ValueError for what is neither."""
    if isinstance(given, list | tuple):
        if len(given) < 2:
            raise ValueError(f"{list(given)} has fewer than 2 values: use {RULE}")
        return tuple(given)
    found = isinstance(given, str) and re.fullmatch(
        r"(log|uniform|int)\(\s*([^,\s]+)\s*,\s*([^,\s]+)\s*\)", given
    )
    try:
        assert found
        kind, low, high = found[1], float(found[2]), float(found[3])
    except (AssertionError, ValueError):
        raise ValueError(f"{given!r} is not a space: use {RULE}") from None
    if not (low < high and isfinite(low) and isfinite(high)):
        raise ValueError(f"{given!r}: the first number must be below the second, both finite")
    if kind == "log" and low <= 0:
        raise ValueError(f"{given!r}: a logarithmic range needs numbers above 0")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"{given!r}: int takes whole numbers")
    return Range(kind, low, high)


def whole(given: object) -> object:
    """Return a space as it is; ValueError for a range that YAML has cut in two."""
    for key, value in given.items() if isinstance(given, dict) else ():
        if isinstance(value, str) and "(" in value and ")" not in value:
            raise ValueError(
                f"{key}: {value!r} has no end, since YAML takes the comma in braces for that of "
                f'the next key: write it in quotes, {{{key}: "log(1e-3, 1e-1)"}}'
            )
    return given
