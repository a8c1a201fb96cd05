"""The files of a run that a page shows, read and checked.

Each may be missing: runs of earlier versions, or unfinished ones. What is there and damaged is a
ValueError.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kdx.recipe.errors import Report
from kdx.recipe.paths import RECIPE
from kdx.recipe.yaml_source import read_mapping
from kdx.report.contents import Certificate, Classes, checked
from kdx.report.summary import FILE as SUMMARY
from kdx.report.summary import Summary, checked_summary

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class RunFiles:
    """A run directory: what its files hold, None or empty for those that are missing."""

    path: Path
    recipe: Mapping[str, Any]
    recipe_text: str
    epochs: Sequence[Mapping[str, Any]]
    summary: Summary | None
    certificate: Certificate | None
    classes: Classes | None

    @property
    def name(self) -> str:
        """The run's name, or its directory's."""
        found = self.summary.name if self.summary else self.recipe.get("name")
        return str(found or self.path.name)

    @property
    def split(self) -> str:
        """The split that is evaluated during training."""
        if self.summary:
            return self.summary.evaluated_on
        held_out = any(key.startswith("validation/") for line in self.epochs for key in line)
        return "validation" if held_out else "test"


def read_run(path: Path, *, summary: Summary | None = None) -> RunFiles:
    """Read the files of a run; `summary` is its summary, if it is not on disk yet.

    ValueError (RecipeError for the recipe) for a directory without a recipe, and damaged files.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: no such directory: give a run's, or a study's")
    recipe = path / RECIPE
    if not recipe.is_file():
        raise ValueError(f"{path}: not a run: it has no {RECIPE}, and no results.json of a study")
    content = read_mapping(recipe, Report(str(recipe)), "a recipe is a mapping")
    return RunFiles(
        path,
        content,
        recipe.read_text(encoding="utf-8-sig"),
        read_epochs(path / "metrics.jsonl"),
        summary or read(path / SUMMARY, checked_summary),
        read(path / "certificate.json", partial(checked, Certificate)),
        read(path / "classes.json", partial(checked, Classes)),
    )


def read(path: Path, check: Callable[[object], _Kind]) -> _Kind | None:
    """Return what `check` makes of a JSON file; None if there is no file."""
    if not path.exists():
        return None
    return _parsed(path, lambda text: check(json.loads(text)))


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl, [] without the file; each has a number as its "epoch"."""
    if not path.exists():
        return []
    lines = _parsed(path, lambda text: [json.loads(line) for line in text.splitlines()])
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
            raise ValueError(f"{path}:{number}: damaged: the line is not an epoch's metrics")
    return lines


def _parsed(path: Path, parse: Callable[[str], _Kind]) -> _Kind:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error
