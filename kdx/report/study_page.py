"""The page of a study, from the results.json that `kdx study` writes."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import Field

from kdx.report.blocks import Block, Code, Facts, Figure, Page, Section, Table, Text
from kdx.report.curves import points
from kdx.report.files import Content, read, read_epochs
from kdx.report.svg import Dots, Line, dots, lines
from kdx.util.words import counted

RESULTS = "results.json"


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


def study_page(directory: Path) -> Page:
    """Return the page of a study's directory; ValueError for damaged files."""
    results = read(directory / RESULTS, Results)
    assert results, "the caller has found the file"
    places = _places(directory)
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
    figures = [*_dots(results, setting), *_curves(results, setting, places)]
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


def _dots(results: Results, setting: str) -> list[Figure]:
    """Return the figures of the differences to the baseline, and of each arm's results."""
    found = [(n, row.arm, row.outcome) for n, row in enumerate(results.of(setting)) if row.outcome]
    if not found:
        return []
    heading, unit = found[0][2].heading, found[0][2].unit
    differences = [
        _row(arm, d.mean, d.low, d.high, d.values, outcome.scale, hue)
        for hue, arm, outcome in found
        if (d := outcome.difference)
    ]
    values = [
        _row(arm, t.mean, t.mean - (t.std or 0), t.mean + (t.std or 0), t.values, o.scale, hue)
        for hue, arm, o in found
        if (t := o.test)
    ]
    figures = []
    if differences:
        points = " (percentage points)" if unit else ""
        drawn = dots(differences, x=f"difference of test {heading}{points}", zero=True)
        note = f"Bars: {results.confidence:.0%} intervals; small dots: the seeds."
        figures.append(Figure(f"Difference to {results.baseline}", drawn, note=note))
    drawn = dots(values, x=f"test {heading}{unit}")
    note = "Bars: one standard deviation; small dots: the seeds."
    return [*figures, Figure(f"Test {heading}", drawn, note=note)]


def _row(
    arm: str,
    mean: float,
    low: float | None,
    high: float | None,
    values: Mapping[str, float],
    scale: float,
    hue: int,
) -> Dots:
    low, high = (None if end is None else scale * end for end in (low, high))
    return Dots(arm, scale * mean, low, high, [scale * value for value in values.values()], hue)


def _curves(results: Results, setting: str, places: Mapping[str, Path]) -> list[Figure]:
    """Return the means over the seeds by epoch, of the metric and of the training loss."""
    rows, figures = results.of(setting), []
    first = next((row.outcome for row in rows if row.outcome), None)
    if first is None:
        return []
    measured = f"{first.evaluated_on}/{first.metric}"
    for title, key, y in (
        (f"{first.heading} on {first.evaluated_on}", measured, f"{first.heading}{first.unit}"),
        ("Training loss", "loss/total", "weighted loss"),
    ):
        is_metric = key == measured
        scale = first.scale if is_metric else 1
        flip = is_metric and results.errors
        series = [_line(row, key, scale, places, flip=flip) for row in rows]
        if any(len(line.points) > 1 for line in series):
            note = "Mean over the seeds; band: one standard deviation."
            drawn = lines(series, x="epoch", y=y)
            figures.append(Figure(title, drawn, [line.label for line in series], note))
    return figures


def _line(
    row: Row, key: str, scale: float, places: Mapping[str, Path], *, flip: bool = False
) -> Line:
    """Return mean and band of the epochs that all seeds have; `flip`: `scale` minus the value."""
    names = [str(run.get("name")) for run in row.runs.values()]
    runs = [
        dict(points(read_epochs(places[name] / "metrics.jsonl"), key, scale))
        for name in names if name in places
    ]  # fmt: skip
    common = sorted(set.intersection(*map(set, runs))) if runs else []
    found = [
        (epoch, [scale - run[epoch] if flip else run[epoch] for run in runs]) for epoch in common
    ]
    means = [(epoch, fmean(values)) for epoch, values in found]
    deviations = [stdev(values) if len(values) > 1 else 0.0 for _, values in found]
    band = [(e, m - d, m + d) for (e, m), d in zip(means, deviations, strict=True)]
    return Line(row.arm, means, band if len(runs) > 1 else ())


def _places(directory: Path) -> dict[str, Path]:
    """Return the directories of the runs below a study's, by the names in their summaries."""
    found = {}
    for path in sorted(directory.rglob("summary.json")):
        try:
            found[json.loads(path.read_text(encoding="utf-8"))["name"]] = path.parent
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: damaged: {error}") from error
    return found


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
