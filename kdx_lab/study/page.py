"""The page of a study, from the results.json that `kdx study` writes."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from kdx.report.blocks import Block, Facts, Page, Section, Table, Text
from kdx.report.contents import checked
from kdx.report.files import read
from kdx.util.words import counted
from kdx_lab.study.page_figures import dot_plots, mean_curves, run_places
from kdx_lab.study.stored import FILE, StoredResults
from kdx_lab.study.tables import cells_of, columns

__all__ = ["is_study", "study_page"]


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
        Section("What the numbers mean", [Text(text) for text in _meaning(results)]),
        Section("Failures", [table] if failures else []),
        Section("Where it ran", _environment(results)),
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


def _meaning(results: StoredResults) -> list[str]:
    outcomes = results.outcomes
    if not outcomes:
        return ["No run is finished yet."]
    images = {run.get("test_images") for row in results.rows for run in row.runs.values()}
    counts = ", ".join(f"{n:,}" for n in sorted(n for n in images if isinstance(n, int)))
    selected = " or ".join(dict.fromkeys(o.selected for o in outcomes))
    texts = [
        "n: finished seeds. Values are means over the seeds ± sample standard deviation. Test: the "
        f"exported student ({selected}) on the {counts} test images. Best and last are of the "
        "epochs evaluated during training."
    ]
    compared = sum(bool(o.difference and o.difference.low is not None) for o in outcomes)
    if compared:
        texts.append(
            f"Δ: the mean of the paired differences to {results.baseline} over the seeds that both "
            f"have, with Student's t interval at {results.confidence:.0%}. It covers the variation "
            f"over seeds and is not corrected for multiple comparisons (here {compared})."
        )
    if results.errors:
        texts.append("Errors are one minus the metric: lower is better, a negative Δ is a gain.")
    if any(o.evaluated_on == "test" for o in outcomes):
        texts.append("Best epochs were chosen on the test images, so `best` is optimistic.")
    return texts


def _environment(results: StoredResults) -> list[Block]:
    found: dict[str, Counter[str]] = {}
    for row in results.rows:
        for run in row.runs.values():
            about = run.get("environment")
            for key, value in about.items() if isinstance(about, dict) else ():
                found.setdefault(key, Counter())[str(value)] += 1
    facts = [
        (key, next(iter(values)) if len(values) == 1
         else ", ".join(f"{value} ({counted(n, 'run')})" for value, n in values.items()))
        for key, values in found.items()
    ]  # fmt: skip
    return [Facts(facts)] if facts else []
