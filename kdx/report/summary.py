"""The results of a run, as numbers on disk."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from kdx.models.certificate import Errors
from kdx.report.contents import checked
from kdx.tasks import Classification
from kdx.util.files import write_whole
from kdx.util.words import measured

FILE = "summary.json"
PRECISIONS = {"no": "float32"}  # Accelerate's name, and the usual one
SIDES = (
    "Test images: on the left of each the targets, on the right the student's outputs (no box: "
    "nothing was found)."
)
OPTIMISTIC = (
    "The best epoch was chosen on the test images, so its figures are optimistic: hold out a "
    "data.validation split to choose on."
)


@dataclass(frozen=True)
class Summary:
    """The results of a finished run. Metrics are of the compact student, in [0, 1] except the loss.

    `headings` are those of the task's metrics by name; the first chooses the best epoch; `numbers`
    are those metrics that are not shares in [0, 1], besides the loss.
    `evaluated_on` is the split of `last` and `best`, and of the choice of the epoch; `test` is
    measured at the end on the test images; `train` are those of the last epoch on the training
    images without augmentation, if the recipe asks for them. `seconds` and `images_per_second`
    are of training only. Of several `teachers`, by name, `teacher` is the mean of their
    probabilities. `average` are the metrics of the average of the student after the last epoch, and
    `exported` is "average" if that, or its state in the best epoch, is what the run exports;
    `best_is_average` says that `best` are metrics of the average.
    `forked_from` is the checkpoint that the run started from. `preprocessing`
    makes the student's input of an image, as in evaluation (`kdx.data.preparation`).
    `stopped_early` says after which epoch `patience` ended the run, and why; None if it did not.
    `simulated` are metrics on the test images of the student as its training simulates it, "int8".
    `by_class` are the test metrics of each class by name, as classes.json has them; `ece` is the
    expected calibration error.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    evaluated_on: str
    exported_epoch: int
    last: dict[str, float]
    best: dict[str, float]
    best_epoch: int
    test: dict[str, float]
    test_images: int
    parameters: dict[str, int]
    epochs: int
    seconds: float
    images_per_second: float
    teacher: dict[str, float] | None
    environment: dict[str, str | int]
    headings: dict[str, str] = field(default_factory=partial(dict, Classification.metrics))
    train: dict[str, float] | None = None
    forked_from: str | None = None
    preprocessing: dict[str, Any] | None = None
    teachers: dict[str, dict[str, float]] = field(default_factory=dict)
    average: dict[str, float] | None = None
    exported: str = "student"
    stopped_early: str | None = None
    simulated: dict[str, dict[str, float]] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    by_class: dict[str, list[float | None]] | None = None
    ece: float | None = None
    best_is_average: bool = False

    @property
    def best_of(self) -> str:
        """The network that the best epoch's metrics are of."""
        return "average" if self.best_is_average else "student"

    @property
    def primary_metric(self) -> str:
        """The name of the metric that chose the best epoch."""
        return next(iter(self.headings))


def environment_rows(environment: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return what `Summary.environment` holds, as it is shown: the precision "no" is float32."""
    named = {"precision": PRECISIONS}
    return [(key, named.get(key, {}).get(str(v), str(v))) for key, v in environment.items()]


def result_table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return the heading and rows of the table of networks: on what, and their metrics."""
    last, split = f"student, last epoch ({summary.epochs})", summary.evaluated_on
    test = f"test, n = {summary.test_images:,}"
    found = [
        (f"{summary.exported} (exported)", test, summary.test),
        *((f"{summary.exported}, {n} (simulated)", test, m) for n, m in summary.simulated.items()),
        (last, split, summary.last),
        (f"average, last epoch ({summary.epochs})", split, summary.average),
        (last, "training images", summary.train),
        (f"{summary.best_of}, best epoch ({summary.best_epoch})", split, summary.best),
        *((f"teacher {name}", split, metrics) for name, metrics in summary.teachers.items()),
        ("teachers, mean" if summary.teachers else "teacher", split, summary.teacher),
    ]
    headings = dict(summary.headings)
    if any("agreement" in (metrics or {}) for _, _, metrics in found):
        headings["agreement"] = "agreement with the teacher"
    rows = [
        [what, on, *(measured(k, m[k], summary.numbers) if k in m else "" for k in headings)]
        for what, on, m in found
        if m
    ]
    return ["network", "on", *headings.values()], rows


def errors_table(float32: Errors, float64: Errors | None) -> tuple[list[str], list[list[str]]]:
    """Return the heading and rows of the table of a certificate's errors."""
    rows = [
        [name, f"{each.max_abs_error:.3g}", f"{each.max_rel_error:.3g}", f"{each.tolerance:g}",
         f"{each.images:,}"]
        for name, each in (("float32", float32), ("float64", float64))
        if each
    ]  # fmt: skip
    return ["dtype", "largest error", "of the largest logit", "tolerance", "images"], rows


def write_summary(run_dir: Path, summary: Summary) -> None:
    """Write summary.json."""
    write_whole(run_dir / FILE, json.dumps(asdict(summary), indent=2) + "\n")


def checked_summary(content: object) -> Summary:
    """Return what summary.json holds; ValueError for other keys, and without a test metric."""
    summary = checked(Summary, content)
    if not set(summary.headings) & set(summary.test):
        raise ValueError("`test` has none of the metrics of `headings`")
    return summary


def read_summary(run_dir: Path) -> Summary:
    """Read summary.json; ValueError if it is missing or cannot be read."""
    try:
        return checked_summary(json.loads((run_dir / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"{run_dir}: not a finished run: {error}") from error
