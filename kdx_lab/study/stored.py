"""results.json, which `kdx study` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdx_lab.study.rows import Outcome
from kdx_lab.study.statistics import CONFIDENCE

__all__ = ["FILE", "StoredResults", "StoredRow"]

FILE = "results.json"


@dataclass(frozen=True)
class StoredRow:
    """An arm in a setting: its seeds, and the summaries or failures of their runs."""

    setting: str
    arm: str
    planned: Sequence[int]
    failures: Mapping[int, str] = field(default_factory=dict)
    outcome: Outcome | None = None
    runs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredResults:
    """The results of a study, as `kdx_lab.study.results.write_results` has written them."""

    title: str
    baseline: str
    planned: int
    finished: int
    rows: Sequence[StoredRow]
    description: str = ""
    command: str = ""
    verdict: Sequence[str] = ()
    errors: bool = False
    confidence: float = CONFIDENCE

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

    def of(self, setting: str) -> list[StoredRow]:
        """Return the rows of a setting, which have the same colours in every figure."""
        return [row for row in self.rows if row.setting == setting]
