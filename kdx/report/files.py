"""The files of a run or a study that a page shows, read and checked.

Each may be missing: runs of earlier versions, or unfinished ones. What is there and damaged is a
ValueError.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kdx.recipe.errors import Report
from kdx.recipe.paths import RECIPE
from kdx.recipe.wording import explain
from kdx.recipe.yaml_source import read_mapping
from kdx.report.contents import Certificate, Classes, Summary

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Run:
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


def read_run(path: Path, *, summary: Mapping[str, Any] | None = None) -> Run:
    """Read the files of a run; `summary` is its summary, if it is not on disk yet.

    ValueError (RecipeError for the recipe) for a directory without a recipe, and damaged files.
    """
    recipe = path / RECIPE
    if not recipe.is_file():
        raise ValueError(f"{path}: not a run: it has no {RECIPE}, and no results.json of a study")
    content = read_mapping(recipe, Report(str(recipe)), "a recipe is a mapping")
    found = path / "summary.json"
    return Run(
        path,
        content,
        recipe.read_text(encoding="utf-8-sig"),
        read_epochs(path / "metrics.jsonl"),
        _checked(found, Summary, summary) if summary else read(found, Summary),
        read(path / "certificate.json", Certificate),
        read(path / "classes.json", Classes),
    )


def read(path: Path, model: type[_Model]) -> _Model | None:
    """Return the checked content of a JSON file; None if there is no file."""
    if not path.exists():
        return None
    return _checked(path, model, _parsed(path, lambda text: json.loads(text)))


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl, [] without the file; each has a number as its "epoch"."""
    if not path.exists():
        return []
    lines = _parsed(path, lambda text: [json.loads(line) for line in text.splitlines()])
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
            raise ValueError(f"{path}:{number}: damaged: the line is not an epoch's metrics")
    return lines


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def _checked(path: Path, model: type[_Model], content: object) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: damaged: {place}{': ' * bool(place)}{explain(first)}") from error
