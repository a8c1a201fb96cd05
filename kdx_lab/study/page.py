"""The page of a study, from the results.json that `kdx study` writes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdx.report.blocks import Block, Code, Facts, Page, Section, Table, Text
from kdx.report.files import read
from kdx.report.study_figures import dot_plots, mean_curves, run_places
from kdx.report.study_results import Outcome, Results, Row, Spread
from kdx.util.words import counted

RESULTS = "results.json"


def study_page(directory: Path) -> Page:
    """Return the page of a study's directory; ValueError for damaged files."""
    results = read(directory / RESULTS, Results)
    assert results, "the caller has found the file"
    places = run_places(directory)
    settings = list(dict.fromkeys(row.setting for row in results.rows))
    sections = [_setting(results, setting, places) for setting in settings]
    failures = [
        [_named(row), seed, why] for row in results.rows for seed, why in row.failures.items()
    ]
    table = Table(["arm", "seed", "why"], failures, words=3)
    sections += [
        Section("What the numbers mean", [Text(text) for text in _meaning(results)]),
        Section("Failures", [table] if failures else []),
        Section("Where it ran", _environment(results)),
        Section("Command", [Code(results.command)] if results.command else []),
    ]
    done = f"{results.finished:,} of {counted(results.planned, 'run')} finished"
    lead = " ".join(results.description.split())
    return Page(f"Study · {done}", results.title, lead, [s for s in sections if s.blocks])


def _setting(results: Results, setting: str, places: Mapping[str, Path]) -> Section:
    """Return the table and the figures of a setting."""
    figures = [*dot_plots(results, setting), *mean_curves(results, setting, places)]
    return Section(setting or "Results", [_table(results, results.of(setting)), *figures])


def _table(results: Results, rows: Sequence[Row]) -> Table:
    found = next((row.outcome for row in rows if row.outcome), None)
    heading = f"test {found.heading}{found.unit}" if found else "test"
    delta = f"Δ to {results.baseline} [{results.confidence:.0%} interval]"
    columns = ["arm", "n", heading, delta, "best", "last", "train", "epochs", "seconds",
               f"x {results.baseline}", "images/s", "parameters", "in training"]  # fmt: skip
    lines = [[row.arm, _count(row), *_cells(row.outcome)] for row in rows]
    kept = [n for n in range(len(columns)) if n < 3 or any(line[n] for line in lines)]
    return Table([columns[n] for n in kept], [[line[n] for n in kept] for line in lines])


def _cells(outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return [""] * 11
    cost = outcome.cost
    return [
        *(_spread(outcome, outcome.test), _difference(outcome)),
        *(_spread(outcome, each) for each in (outcome.best, outcome.last, outcome.train)),
        f"{cost.epochs:,}",
        f"{cost.seconds.mean:,.1f}",
        f"{cost.ratio:.2f}" if cost.ratio else "",
        f"{cost.images_per_second.mean:,.0f}",
        *(f"{cost.shipped:,}", f"{cost.trained:,}"),
    ]


def _count(row: Row) -> str:
    done, planned = len(row.runs), len(row.planned)
    return str(done) if done == planned else f"{done} of {planned}"


def _spread(outcome: Outcome, found: Spread | None) -> str:
    if found is None:
        return ""
    std = "" if found.std is None else f" ± {outcome.shown(found.std)}"
    return f"{outcome.shown(found.mean)}{std}"


def _difference(outcome: Outcome) -> str:
    found = outcome.difference
    if found is None:
        return ""
    text, n = outcome.shown(found.mean, "+"), len(found.values)
    if found.low is not None and found.high is not None:
        text += f" [{outcome.shown(found.low, '+')}, {outcome.shown(found.high, '+')}]"
    return text if n == len(outcome.test.values) else f"{text} (n = {n})"


def _named(row: Row) -> str:
    return ", ".join(filter(None, (row.setting, row.arm)))


def _meaning(results: Results) -> list[str]:
    outcomes = [row.outcome for row in results.rows if row.outcome]
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


def _environment(results: Results) -> list[Block]:
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
