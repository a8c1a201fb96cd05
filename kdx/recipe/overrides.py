"""Overrides from the command line: `epochs=30`, `student.transforms.0.rate=8`."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from kdx.recipe.errors import KeyPath, Report, dotted
from kdx.recipe.wording import show
from kdx.recipe.yaml_source import DEEPEST, LARGEST, parse
from kdx.util.words import counted

__all__ = ["override"]

_INDEX = re.compile("[0-9]{1,6}")
_MOST = 1000


def override(data: dict[str, Any], overrides: Sequence[str], report: Report) -> None:
    """Set values in `data`, in order; what cannot be set goes to `report`.

    A key is dotted; a number steps into a list, and its length appends. What is missing on the
    way is made: a list where a number steps into it, else a mapping. A value is YAML, read as in
    a recipe. All overrides together are as large as a recipe may be, at most.
    """
    if sum(map(len, overrides)) > LARGEST or len(overrides) > _MOST:
        report.fail(f"overrides: at most {_MOST}, of {LARGEST // 1024} kB together")
    for text in overrides:
        key, equals, value = text.partition("=")
        parts = key.split(".")
        try:
            if not equals:
                raise ValueError("an override is written key=value")
            if not key.isprintable():
                raise ValueError(f"key {show(key)} holds characters that do not print")
            if not all(parts):
                raise ValueError(f"key {show(key)} has an empty part")
            if len(parts) > DEEPEST:
                raise ValueError(f"the key has more than {DEEPEST} parts")
            _set(data, parts, value, text, report)
        except ValueError as error:
            report.add(tuple(parts), str(error), origin=text)


def _set(data: Any, parts: Sequence[str], value: str, text: str, report: Report) -> None:
    holder, path = data, ()
    for part, following in pairwise(parts):
        step = _step(holder, part, path)
        path = (*path, step)
        if (below := _get(holder, step)) is None:
            below = [] if _INDEX.fullmatch(following) else {}
            _put(holder, step, below)
            report.locate(path, text)
        holder = below
    step = _step(holder, parts[-1], path)
    path = (*path, step)
    report.forget(path)
    report.locate(path, text)
    _put(holder, step, parse(value, report, path=path, origin=text))


def _step(holder: Any, part: str, path: KeyPath) -> str | int:
    """Return `part` as a key or an index of `holder`, the value at `path`."""
    if isinstance(holder, dict):
        return part
    if not isinstance(holder, list):
        raise ValueError(f"{dotted(path)} is {show(holder)}, which has no {show(part)}")
    if not _INDEX.fullmatch(part):
        raise ValueError(f"{dotted(path)} is a list: {show(part)} is not a number into it")
    if int(part) > len(holder):
        entries = counted(len(holder), "entry", "entries")
        message = f"{part} is out of range: {dotted(path)} has {entries}"
        raise ValueError(f"{message}, and {len(holder)} appends one")
    return int(part)


def _get(holder: Any, step: Any) -> Any:
    if isinstance(holder, list):
        return holder[step] if step < len(holder) else None
    return holder.get(step)


def _put(holder: Any, step: Any, value: Any) -> None:
    if isinstance(holder, list) and step == len(holder):
        holder.append(value)
    else:
        holder[step] = value
