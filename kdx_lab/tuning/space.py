"""The space of a search, as a study's file has it: `log(1e-3, 1e-1)`, `[adam, sgd]`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

__all__ = ["Range", "parsed"]

RULE = "log(low, high), uniform(low, high), int(low, high), or a list of 2 or more values"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; of the kinds "log", "uniform", and "int" (whole numbers)."""

    kind: str
    low: float
    high: float


def parsed(given: str | Sequence[object]) -> Range | tuple[object, ...]:
    """Return a range, or the values of a list; ValueError for what is neither."""
    if not isinstance(given, str):
        if len(given) < 2:
            raise ValueError(f"{list(given)} has fewer than 2 values: use {RULE}")
        return tuple(given)
    found = re.fullmatch(r"(log|uniform|int)\(\s*([^,\s]+)\s*,\s*([^,\s]+)\s*\)", given)
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
