"""What the JSON files of a run hold, checked. Keys that are not named here are ignored."""

from collections.abc import Collection
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from kdx.models.certificate import Errors
from kdx.recipe.wording import explain

_Kind = TypeVar("_Kind")

Metrics = dict[str, float]


def checked(kind: type[_Kind], content: object) -> _Kind:
    """Return what JSON holds as a model or dataclass; ValueError for the first mistake in it."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}{': ' * bool(place)}{explain(first)}") from error


class Content(BaseModel):
    """What a file holds; what is not named is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


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
    float64: Errors | None = None
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


def nouns(metrics: Collection[str], numbers: Collection[str]) -> tuple[str, str]:
    """Return what the metrics of classes.json are of, and its plural: of a regression, outputs."""
    return ("output", "outputs") if set(metrics) & set(numbers) else ("class", "classes")


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
    numbers: list[str] = []

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
