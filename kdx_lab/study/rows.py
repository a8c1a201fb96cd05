"""The results of a study's runs: a row for each arm in a setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from kdx.report.summary import Summary
from kdx_lab.study.cell import Cell
from kdx_lab.study.statistics import Difference, Spread

__all__ = ["ArmRow", "Outcome", "Results", "Row", "Rows", "TrainingCost"]


@dataclass(frozen=True)
class TrainingCost:
    """The cost of training. `ratio` is the median of the seeds' seconds over the baseline's."""

    seconds: Spread
    ratio: float | None
    images_per_second: Spread
    epochs: float
    shipped: int
    trained: int


@dataclass(frozen=True)
class Outcome:
    """The finished runs of a row: the task's primary metric over the seeds.

    It is a share in [0, 1], or a number if `is_number`, and shown so.

    `test` is the exported student's, of the `selected` epoch; `best` and `last` are on the split
    `evaluated_on` during training; `train` is the last epoch's. In a study of errors these four are
    one minus the metric, and lower is better. `others` are the other metrics on the test images,
    never turned into errors. `difference` is `test` minus the baseline's, None for the baseline.
    """

    metric: str
    heading: str
    evaluated_on: str
    selected: str
    test: Spread
    best: Spread
    best_epoch: Spread
    last: Spread
    train: Spread | None
    difference: Difference | None
    others: Mapping[str, Spread]
    cost: TrainingCost
    is_number: bool = False

    @property
    def scale(self) -> int:
        """What a value is multiplied by to be shown: 100, or 1 for numbers."""
        return 1 if self.is_number else 100

    def shown(self, value: float, *, sign: bool = False) -> str:
        """Return a value, or with a `sign` a difference: in percent, or with four decimals."""
        places, plus = 4 if self.is_number else 2, "+z" if sign else ""
        return f"{self.scale * value:{plus}.{places}f}"


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """An arm in a setting; failures are by seed."""

    setting: str
    arm: str
    failures: Mapping[int, str] = field(default_factory=dict)
    outcome: Outcome | None = None


@dataclass(frozen=True, kw_only=True)
class Row(ArmRow):
    """A row's cells, and the runs of those that have finished, by seed."""

    cells: Mapping[int, Cell]
    runs: Mapping[int, Summary]


AnyRow = TypeVar("AnyRow", bound=ArmRow)


class Rows(Generic[AnyRow]):
    """Rows by setting, in the grid's order."""

    rows: Sequence[AnyRow]

    @property
    def settings(self) -> list[str]:
        """The settings, in the grid's order."""
        return list(dict.fromkeys(row.setting for row in self.rows))

    @property
    def arms(self) -> list[str]:
        """The arms of all settings, in the grid's order."""
        return list(dict.fromkeys(row.arm for row in self.rows))

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of the rows that have one."""
        return [row.outcome for row in self.rows if row.outcome]

    def of(self, setting: str) -> list[AnyRow]:
        """Return the rows of a setting."""
        return [row for row in self.rows if row.setting == setting]


@dataclass(frozen=True)
class Results(Rows[Row]):
    """The results of a study; `tuned` by trials in no row."""

    rows: Sequence[Row]
    baseline: str
    errors: bool
    tuned: bool = False

    @property
    def runs(self) -> list[Summary]:
        """All finished runs."""
        return [run for row in self.rows for run in row.runs.values()]

    @property
    def planned(self) -> int:
        """The number of all cells."""
        return sum(len(row.cells) for row in self.rows)
