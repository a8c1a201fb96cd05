"""A YAML file that a person wrote: opened with care, since it may be anything."""

import stat
from pathlib import Path
from typing import Any

from kdx.recipe.errors import Report
from kdx.recipe.wording import show
from kdx.recipe.yaml_source import LARGEST, parse

__all__ = ["read_mapping"]


def read_mapping(path: Path, report: Report, rule: str) -> dict[str, Any]:
    """Return the top level of the YAML file; RecipeError where it cannot be read at all.

    `rule` says what the file should be. Every value is located in `report`.
    """
    data = parse(_text(path, report), report)
    if not isinstance(data, dict):
        found = "the file is empty" if data is None else f"the file holds {show(data)}"
        report.fail(f"{found}: {rule}")
    return data


def _text(path: Path, report: Report) -> str:
    try:
        content = _content(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        report.fail(f"cannot be read: {reason}")
    if len(content) > LARGEST:
        report.fail(f"larger than {LARGEST // 1024} kB: a recipe is about twenty lines")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report.fail("not UTF-8", line=content.count(b"\n", 0, error.start) + 1)


def _content(path: Path) -> bytes:
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError("it is a pipe or a device, not a file")
    with path.open("rb") as file:
        return file.read(LARGEST + 1)
