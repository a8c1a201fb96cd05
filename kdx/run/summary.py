"""The results of a run, as numbers on disk, and runs side by side in a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import sqrt
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from kdx.tasks import Classification
from kdx.util.files import write_whole

__all__ = ["Summary", "comparison", "read_summary", "write_summary"]

FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """The results of a finished run. Metrics are of the compact student, in [0, 1] except the loss.

    `headings` are those of the task's metrics by name; the first chooses the best epoch.
    `evaluated_on` is the split of `last` and `best`, and of the choice of the epoch; `test` is
    measured at the end on the test images; `train` are those of the last epoch on the training
    images without augmentation, if the recipe asks for them. `seconds` and `images_per_second`
    are of training only. `forked_from` is the checkpoint that the run started from.
    """

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

    @property
    def primary_metric(self) -> str:
        """The name of the metric that chose the best epoch."""
        return next(iter(self.headings))


def write_summary(run_dir: Path, summary: Summary) -> None:
    """Write summary.json."""
    write_whole(run_dir / FILE, json.dumps(asdict(summary), indent=2) + "\n")


def read_summary(run_dir: Path) -> Summary:
    """Read summary.json; ValueError if it is missing or cannot be read."""
    try:
        return Summary(**json.loads((run_dir / FILE).read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{run_dir}: not a finished run: {error}") from error


def comparison(rows: Sequence[tuple[str, Summary]], title: str) -> Table:
    """Return a table of classifiers on the same test images, one run each."""
    first = rows[0][1]
    name, heading = first.primary_metric, first.headings[first.primary_metric]
    p, n = first.test[name], first.test_images
    error = f"one run each; standard error of a {heading} near {p:.0%} on {n:,} images"
    caption = f"{error}: {sqrt(p * (1 - p) / n):.2%}"
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD)
    table.add_column("network", no_wrap=True)
    for column in (f"test\n{heading}", "parameters", "while\ntraining", "training", "img/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for label, summary in rows:
        table.add_row(
            label,
            f"{summary.test[name]:.2%}",
            f"{summary.parameters['compact']:,}",
            f"{summary.parameters['trained']:,}",
            f"{summary.seconds:.1f} s",
            f"{summary.images_per_second:,.0f}",
        )
    return table
