"""The page of a study, from the results.json that `kdx study` writes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from kdx.report.blocks import Block, Facts, Page, Section, Table, Text
from kdx.report.contents import checked
from kdx.report.files import read
from kdx.util.words import counted
from kdx_lab.study.meaning import where_it_ran
from kdx_lab.study.page_figures import dot_plots, mean_curves, run_places
from kdx_lab.study.stored import FILE, StoredResults
from kdx_lab.study.tables import cells_of, columns

__all__ = ["is_study", "study_page"]


_UNKNOWN = "Written by an earlier kdx: `kdx study --report` adds what the numbers mean."


def is_study(directory: Path) -> bool:
    """Return whether a directory has the results of a study."""
    return (directory / FILE).is_file()


def study_page(directory: Path) -> Page:
    """Return the page of a study's directory; ValueError for damaged files."""
    results = read(directory / FILE, partial(checked, StoredResults))
    assert results, "the caller has found the file"
    places = run_places(directory)
    sections = [_setting(results, setting, places) for setting in results.settings]
    failures = [
        [", ".join(filter(None, (row.setting, row.arm))), str(seed), why]
        for row in results.rows
        for seed, why in row.failures.items()
    ]
    table = Table(["arm", "seed", "why"], failures, words=3)
    command = Text(results.command, code=True)
    sections += [
        Section("What it says", [Text(text) for text in results.verdict]),
        Section("What the numbers mean", [Text(text) for text in results.meaning or [_UNKNOWN]]),
        Section("Failures", [table] if failures else []),
        Section("Where it ran", _where(results)),
        Section("Command", [command] if results.command else []),
    ]
    done = f"{results.finished:,} of {counted(results.planned, 'run')} finished"
    lead = " ".join(results.description.split())
    return Page(f"Study · {done}", results.title, lead, [s for s in sections if s.blocks])


def _setting(results: StoredResults, setting: str, places: Mapping[str, Path]) -> Section:
    """Return the table and the figures of a setting."""
    figures = [*dot_plots(results, setting), *mean_curves(results, setting, places)]
    every, rows = columns(results.outcomes, results.baseline), results.of(setting)
    found = [row.outcome for row in rows if row.outcome]
    shown = [column for column in every if any(column.cell(outcome) for outcome in found)]
    lines = [cells_of(row.arm, row.runs, row.planned, row.outcome, shown) for row in rows]
    table = Table(["arm", "n", *(column.heading for column in shown)], lines)
    return Section(setting or "Results", [table, *figures])


def _where(results: StoredResults) -> list[Block]:
    every = (run.get("environment") for row in results.rows for run in row.runs.values())
    facts = where_it_ran(each for each in every if isinstance(each, dict))
    return [Facts(list(facts.items()))] if facts else []
