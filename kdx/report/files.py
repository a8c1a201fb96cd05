"""The files of a run or a study that a page shows, read and checked.

Each may be missing: runs of earlier versions, or unfinished ones. What is there and damaged is a
ValueError. Keys that are not named here are ignored.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from kdx.recipe.errors import Report
from kdx.recipe.paths import RECIPE
from kdx.recipe.wording import explain
from kdx.recipe.yaml_source import read_mapping

Metrics = dict[str, float]
_Model = TypeVar("_Model", bound=BaseModel)


class Content(BaseModel):
    """What a file holds; what is not named is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Summary(Content):
    """summary.json: see `kdx.run.summary.Summary`."""

    name: str
    evaluated_on: str
    exported_epoch: int
    last: Metrics
    best: Metrics
    best_epoch: int
    test: Metrics
    test_images: int
    parameters: dict[str, int]
    epochs: int
    seconds: float
    images_per_second: float
    teacher: Metrics | None = None
    environment: dict[str, str | int] = {}
    headings: dict[str, str] = {"top1": "top-1", "top5": "top-5"}
    numbers: list[str] = []
    train: Metrics | None = None
    forked_from: str | None = None
    preprocessing: dict[str, Any] | None = None
    teachers: dict[str, Metrics] = {}
    average: Metrics | None = None
    exported: str = "student"
    stopped_early: str | None = None

    @model_validator(mode="after")
    def _measured(self) -> "Summary":
        if not set(self.headings) & set(self.test):
            raise ValueError("`test` has none of the metrics of `headings`")
        return self

    @property
    def primary(self) -> str:
        """The name of the metric that chose the best epoch."""
        return next(name for name in self.headings if name in self.test)


class Errors(Content):
    """Errors of the compact network in a dtype."""

    max_abs_error: float
    max_rel_error: float
    tolerance: float
    images: int


class Latency(Content):
    """Milliseconds a batch, of an export and of torch."""

    batch: int
    threads: int
    median_ms: float
    p95_ms: float | None = None
    torch_median_ms: float | None = None
    torch_p95_ms: float | None = None


class Export(Content):
    """An artefact: a row of certificate.json's "exports"."""

    format: str
    file: str
    bytes: int
    int8: bool = False
    runtime: str = ""
    images: int | None = None
    max_abs_error: float | None = None
    predictions_changed: int | None = None
    metrics: dict[str, Metrics] = {}
    latency: list[Latency] = []


class Certificate(Content):
    """certificate.json: see `kdx.models.certificate.Certificate`."""

    holds: bool
    float32: Errors
    float64: Errors
    predictions_changed: int
    predictions: int
    exports: list[Export] = []


class ClassMetric(Content):
    """A metric's heading, and its value for each class."""

    heading: str
    values: list[float | None]


class Bin(Content):
    """Images whose confidence lies between two values."""

    low: float
    high: float
    count: int
    confidence: float | None = None
    accuracy: float | None = None


class Calibration(Content):
    """The expected calibration error, and the bins that it is the mean of."""

    ece: float
    bins: list[Bin]


class Mistake(Content):
    """A confident mistake on a test image."""

    index: int
    name: str
    true: int
    predicted: int
    confidence: float
    picture: str | None = None


class Classes(Content):
    """classes.json: what is known of each of C classes."""

    split: str
    images: int
    names: list[str]
    count: list[int]
    metrics: dict[str, ClassMetric] = {}
    confusion: list[list[int]] | None = None
    calibration: Calibration | None = None
    worst: list[Mistake] = []

    @model_validator(mode="after")
    def _complete(self) -> "Classes":
        classes = len(self.names)
        lists = [self.count, *(each.values for each in self.metrics.values())]
        lists += [] if self.confusion is None else [self.confusion, *self.confusion]
        if any(len(each) != classes for each in lists):
            raise ValueError(f"a list is not as long as the {classes} names")
        if any(not 0 <= n < classes for w in self.worst for n in (w.true, w.predicted)):
            raise ValueError(f"`worst` has a class that is not one of the {classes}")
        return self


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
