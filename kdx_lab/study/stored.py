"""results.json, which `kdx study` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdx_lab.study.rows import ArmRow, Rows
from kdx_lab.study.statistics import CONFIDENCE

__all__ = ["FILE", "StoredResults", "StoredRow"]

FILE = "results.json"


@dataclass(frozen=True, kw_only=True)
class StoredRow(ArmRow):
    """A row's seeds, and the summaries of their finished runs."""

    planned: Sequence[int]
    runs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredResults(Rows[StoredRow]):
    """The results of a study, as `kdx_lab.study.results.write_results` has written them."""

    title: str
    baseline: str
    planned: int
    finished: int
    rows: Sequence[StoredRow]
    description: str = ""
    command: str = ""
    verdict: Sequence[str] = ()
    meaning: Sequence[str] = ()
    errors: bool = False
    confidence: float = CONFIDENCE
