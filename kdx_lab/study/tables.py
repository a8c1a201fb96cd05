"""The tables of a study: in Markdown, and on the terminal while it runs.

Metrics are in percent and differences in percentage points, or both numbers as they are; each is
the mean over the seeds.
"""

from collections.abc import Callable, Collection, Sequence, Sized
from dataclasses import dataclass
from textwrap import fill

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from kdx.util.markdown import markdown_table
from kdx_lab.study.rows import Outcome, Results, Row
from kdx_lab.study.statistics import CONFIDENCE, Spread
from kdx_lab.study.stored import StoredResults

__all__ = [
    "cells_of", "columns", "heading_of", "live_table", "overview", "setting_table",
    "unit_of",
]  # fmt: skip

HEADING = 12  # characters per line of a heading on the terminal, unless the numbers below are wider


@dataclass(frozen=True)
class Column:
    """A column: its heading, and its text for an outcome."""

    heading: str
    cell: Callable[[Outcome], str]


def heading_of(outcomes: Sequence[Outcome]) -> str:
    """Return the metric of a study: "top-1", "top-1 error"; for several tasks, all."""
    return " / ".join(dict.fromkeys(o.heading for o in outcomes)) or "metric"


def unit_of(outcomes: Sequence[Outcome], percent: str) -> str:
    """Return `percent` if any metric of a study is a share, which is shown in percent; or ""."""
    return percent if any(not o.is_number for o in outcomes) or not outcomes else ""


def setting_table(results: Results, setting: str) -> str:
    """Return the Markdown table of a setting; empty columns are left out."""
    every = columns(results.outcomes, results.baseline)
    shown = [c for c in every if any(c.cell(o) for o in results.outcomes)]
    rows = results.of(setting)
    lines = [cells_of(row.arm, row.runs, row.cells, row.outcome, shown) for row in rows]
    return markdown_table(["arm", "n", *(column.heading for column in shown)], lines)


def overview(results: Results | StoredResults) -> str:
    """Return the Markdown table of all settings: arms by row, settings by column, of test.

    "N/A" if a setting does not have the arm, "..." if nothing is finished yet.
    """
    found = {(row.setting, row.arm): row.outcome for row in results.rows}

    def cell(setting: str, arm: str) -> str:
        if (setting, arm) not in found:
            return "N/A"
        outcome = found[setting, arm]
        return _value(outcome, outcome.test) if outcome else "..."

    lines = [[arm, *(cell(setting, arm) for setting in results.settings)] for arm in results.arms]
    return markdown_table(["arm", *results.settings], lines)


def live_table(results: Results, *, running: Collection[str] = (), title: str = "") -> Table:
    """Return the current table, a section per setting; `running` are cells by `str(cell)`."""
    first, second, *others = columns(results.outcomes, results.baseline)
    shown = [first, second, next(c for c in others if c.heading == "seconds")]
    table = Table(
        title=Text(title) if title else None, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    # On a narrow terminal names are folded, and numbers stay whole.
    table.add_column("arm", overflow="fold", min_width=8)
    table.add_column("n", justify="right", no_wrap=True, min_width=2)
    for column in shown:
        width = max((len(column.cell(o)) for o in results.outcomes), default=0)
        heading = fill(column.heading, max(width, HEADING))
        table.add_column(Text(heading), justify="right", no_wrap=True, min_width=width)
    table.add_column("state", min_width=7)
    for setting in results.settings:
        if setting:
            table.add_row(Text(setting, style="bold"))
        for row in results.of(setting):
            cells = cells_of(row.arm, row.runs, row.cells, row.outcome, shown)
            table.add_row(*map(Text, cells), _state(row, running))
        table.add_section()
    return table


def cells_of(
    arm: str, done: Sized, planned: Sized, outcome: Outcome | None, shown: Sequence[Column]
) -> list[str]:
    """Return a row of a table: the arm, its number of finished seeds, the columns `shown`."""
    count = str(len(done)) if len(done) == len(planned) else f"{len(done)} of {len(planned)}"
    return [arm, count, *(column.cell(outcome) if outcome else "" for column in shown)]


def columns(outcomes: Sequence[Outcome], baseline: str) -> list[Column]:
    """Return all columns but arm and n, the test metric first and its difference second."""
    what = heading_of(outcomes)
    splits = {o.evaluated_on for o in outcomes}
    split = splits.pop() if len(splits) == 1 else "evaluated"
    chosen = " (chosen on test)" if split == "test" else ""
    same = all(o.evaluated_on == "test" and o.selected == "last epoch" for o in outcomes)
    return [
        Column(f"test {what}{unit_of(outcomes, ' (%)')}", lambda o: _value(o, o.test)),
        Column(f"Δ to {baseline} [{CONFIDENCE:.0%} CI]", _points),
        Column(f"best {split}{chosen}", lambda o: _value(o, o.best)),
        Column("at epoch", lambda o: f"{o.best_epoch.mean:.1f}"),
        Column(f"last {split}", lambda o: "" if same else _value(o, o.last)),
        Column("train", lambda o: _value(o, o.train)),
        Column("epochs", lambda o: f"{o.cost.epochs:,.1f}".removesuffix(".0")),
        Column("seconds", lambda o: _seconds(o.cost.seconds.mean)),
        Column(f"x {baseline}", lambda o: f"{o.cost.ratio:.2f}" if o.cost.ratio else ""),
        Column("images/s", lambda o: f"{o.cost.images_per_second.mean:,.0f}"),
        Column("parameters", lambda o: f"{o.cost.shipped:,}"),
        Column("in training", lambda o: f"{o.cost.trained:,}"),
    ]


def _state(row: Row, running: Collection[str]) -> str:
    """Return "done" or "waiting", or what happens: "running, 1 failed"."""
    if len(row.runs) == len(row.cells):
        return "done"
    parts = []
    if any(str(cell) in running for cell in row.cells.values()):
        parts.append("running")
    if row.failures:
        parts.append(f"{len(row.failures)} failed")
    return ", ".join(parts) or "waiting"


def _value(outcome: Outcome, value: Spread | None) -> str:
    if value is None:
        return ""
    std = "" if value.std is None else f" ± {outcome.shown(value.std)}"
    return f"{outcome.shown(value.mean)}{std}"


def _points(outcome: Outcome) -> str:
    """Return the difference with its interval, and its number of seeds if some are missing."""
    found = outcome.difference
    if found is None:
        return ""
    mean, n = outcome.shown(found.mean, sign=True), len(found.values)
    if found.low is not None and found.high is not None:
        low, high = (outcome.shown(each, sign=True) for each in (found.low, found.high))
        mean += f" [{low}, {high}]"
    return mean if n == len(outcome.test.values) else f"{mean} (n = {n})"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
