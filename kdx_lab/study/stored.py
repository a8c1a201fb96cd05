"""results.json, which `kdx study` writes."""

from typing import Any

from pydantic import Field

from kdx.report.contents import Content


class Spread(Content):
    """Values by seed, their mean and their standard deviation."""

    values: dict[str, float]
    mean: float
    std: float | None = None


class Difference(Content):
    """Differences to the baseline by seed, their mean, and the ends of its interval."""

    values: dict[str, float]
    mean: float
    low: float | None = None
    high: float | None = None


class TrainingCost(Content):
    """What training took."""

    seconds: Spread
    ratio: float | None = None
    images_per_second: Spread
    epochs: int
    shipped: int
    trained: int


class Outcome(Content):
    """The finished runs of an arm: see `kdx_lab.study.rows.Outcome`."""

    metric: str
    heading: str
    evaluated_on: str
    selected: str
    test: Spread
    best: Spread
    last: Spread
    train: Spread | None = None
    difference: Difference | None = None
    cost: TrainingCost
    is_number: bool = False

    def shown(self, value: float, sign: str = "") -> str:
        """Return a value in percent, or as a number; with the sign "+" a difference."""
        return f"{value:{sign}.4f}" if self.is_number else f"{100 * value:{sign}.2f}"

    @property
    def unit(self) -> str:
        """What is written behind a heading."""
        return "" if self.is_number else " (%)"

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be shown."""
        return 1 if self.is_number else 100


class Row(Content):
    """An arm in a setting."""

    setting: str
    arm: str
    planned: list[int]
    failures: dict[str, str] = Field(default_factory=dict)
    outcome: Outcome | None = None
    runs: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Results(Content):
    """results.json."""

    title: str
    description: str = ""
    command: str = ""
    baseline: str
    errors: bool = False
    confidence: float = 0.95
    planned: int
    finished: int
    rows: list[Row]

    def of(self, setting: str) -> list[Row]:
        """Return the rows of a setting, which have the same colours in every figure."""
        return [row for row in self.rows if row.setting == setting]
