"""Overrides from the command line: `epochs=30`, `student.transforms.0.rate=8`."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from kdx.recipe.errors import KeyPath, Report, dotted
from kdx.recipe.wording import show
from kdx.recipe.yaml_source import DEEPEST, LARGEST, parse
from kdx.util.words import counted

_INDEX = re.compile("[0-9]{1,6}")
_BRACKETS = re.compile(r"(?<=[\w\]])\[(-?[0-9]{1,6})\]")
_MOST = 1000
_NAMED = 9  # entries of a list that a message names


def override(data: dict[str, Any], overrides: Sequence[str], report: Report) -> None:
    """Set values in `data`, in order; what cannot be set goes to `report`.

    A key is dotted; a number is an index of a list (`losses.0` or `losses[0]`), and the list's
    length appends. Missing lists (if a number follows) and mappings on the way are created. A
    value is YAML, read as in a recipe. All overrides together may be as large as a recipe.
    """
    if sum(map(len, overrides)) > LARGEST or len(overrides) > _MOST:
        report.fail(f"overrides: at most {_MOST}, of {LARGEST // 1024} kB together")
    for text in overrides:
        key, equals, value = text.partition("=")
        parts = parts_of(key)
        try:
            if not equals:
                raise ValueError("an override has the form key=value")
            if not key.isprintable():
                raise ValueError(f"key {show(key)} contains unprintable characters")
            if not all(parts):
                raise ValueError(f"key {show(key)} has an empty part")
            if len(parts) > DEEPEST:
                raise ValueError(f"the key has more than {DEEPEST} parts")
            _set(data, parts, value, text, report)
        except ValueError as error:
            report.add(tuple(parts), str(error), origin=text)


def parts_of(key: str) -> list[str]:
    """Return the keys and indexes of a dotted key: `losses[1].weight` is `losses.1.weight`."""
    return _BRACKETS.sub(r".\1", key).split(".")


def _set(holder: Any, parts: Sequence[str], value: str, text: str, report: Report) -> None:
    path = ()
    for part, following in pairwise((*parts, "")):
        step = _step(holder, part, path)
        path = (*path, step)
        if not following:
            report.forget(path)
            report.locate(path, text)
            holder[step] = parse(value, report, path=path, origin=text)
        elif holder[step] is None:
            report.locate(path, text)
            holder[step] = [] if _INDEX.fullmatch(following) else {}
        holder = holder[step]


def _step(holder: Any, part: str, path: KeyPath) -> str | int:
    """Return `part` as a key or an index of `holder`, the value at `path`; None is there if new."""
    if isinstance(holder, dict):
        holder.setdefault(part, None)
        return part
    if not isinstance(holder, list):
        raise ValueError(f"{dotted(path)} is {show(holder)}, which has no {show(part)}")
    if not _INDEX.fullmatch(part):
        named = [
            f"{index} is {show(each['use'])}"
            for index, each in enumerate(holder)
            if isinstance(each, dict) and isinstance(each.get("use"), str)
        ]
        has = f": {', '.join(named[:_NAMED])}" if named else ""
        raise ValueError(f"{dotted(path)} is a list: {show(part)} is not an index of it{has}")
    index, length = int(part), len(holder)
    if index > length:
        has = f"{dotted(path)} has {counted(length, 'entry', 'entries')}"
        raise ValueError(f"index {part} is out of range: {has}, and {length} appends one")
    holder.extend([None] * (index == length))
    return index
