"""The text and tables of results.md."""

from collections import Counter
from collections.abc import Sequence

from kdx.recipe import Recipe
from kdx.util.words import counted
from kdx_lab.study.rows import Results, Row
from kdx_lab.study.statistics import CONFIDENCE
from kdx_lab.study.tables import heading_of, overview, setting_table, unit_of
from kdx_lab.study.verdict import verdict

__all__ = ["document"]


def document(
    results: Results, *, title: str, description: str, command: str, plots: str, tuning: str = ""
) -> str:
    """Return the text of results.md; `plots` and `tuning` are the contents of their sections."""
    sections = [
        f"# {title}",
        description.strip(),
        *_tables(results),
        "\n".join(f"- {line}" for line in verdict(results)),
        _section("Chosen values", tuning),
        _section("What the numbers mean", _meaning(results)),
        _section("Failures", _failures(results.rows)),
        _section("Plots", plots),
        _section("Where it ran", _environment(results)),
        _section("Command", f"```bash\n{command}\n```" if command else ""),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _section(heading: str, text: str) -> str:
    return f"## {heading}\n\n{text}" if text else ""


def _tables(results: Results) -> list[str]:
    sections = []
    done = len(results.runs)
    if done < results.planned:
        sections.append(f"**Incomplete: {done:,} of {counted(results.planned, 'run')} done.**")
    if len(results.settings) > 1:
        what = f"{heading_of(results.outcomes)}{unit_of(results.outcomes, ' in percent')}"
        text = f"Test {what}, by setting."
        sections.append(f"## All settings\n\n{text}\n\n{overview(results)}")
    for setting in results.settings:
        parts = [_teacher(results.of(setting)), setting_table(results, setting)]
        sections.append(_section(setting or "Results", "\n\n".join(filter(None, parts))))
    return sections


def _teacher(rows: Sequence[Row]) -> str:
    """Return the teacher's metric; if the runs differ, the lowest and the highest."""
    found = [
        (run.teacher[row.outcome.metric], run, row.outcome)
        for row in rows
        for run in row.runs.values()
        if run.teacher and row.outcome
    ]
    if not found:
        return ""
    _, run, outcome = found[0]
    low, high = (outcome.shown(edge(value for value, *_ in found)) for edge in (min, max))
    figure = (low if low == high else f"{low} to {high}") + "%" * (not outcome.is_number)
    return f"Teacher: {run.headings[run.primary_metric]} {figure} on {run.evaluated_on}."


def _meaning(results: Results) -> str:
    outcomes = results.outcomes
    if not outcomes:
        return "No run is finished yet."
    paragraphs = [_measuring(results), _comparing(results), _costing(results)]
    return "\n\n".join(filter(None, paragraphs))


def _measuring(results: Results) -> str:
    outcomes = results.outcomes
    images = " or ".join(f"{n:,}" for n in sorted({run.test_images for run in results.runs}))
    selected = " or ".join(dict.fromkeys(o.selected for o in outcomes))
    splits = list(dict.fromkeys(o.evaluated_on for o in outcomes))
    text = [
        f"n: finished seeds. Metrics{unit_of(outcomes, ' are in percent')}: mean over the seeds ± "
        f"sample standard deviation. Test: the exported student ({selected}) on the {images} test "
        "images, measured once. Best, last: of the epochs evaluated during training, on "
        f"{' or '.join(splits)}."
    ]
    if results.errors:
        text.append("Errors are one minus the metric: lower is better, and a negative Δ is a gain.")
    if "test" in splits:
        text.append(
            "A best epoch chosen on the test images is an optimistic figure: hold out a "
            "`data.validation` split to choose on."
        )
    if any(o.train for o in outcomes):
        text.append("Train: the last epoch on the training images, without augmentation.")
        if any(recipe.data.label_noise for recipe in _recipes(results)):
            text.append("Some labels are random (`data.label_noise`) and count as true.")
    return " ".join(text)


def _recipes(results: Results) -> list[Recipe]:
    return [cell.recipe for row in results.rows for cell in row.cells.values()]


def _comparing(results: Results) -> str:
    outcomes = results.outcomes
    differences = [o.difference for o in outcomes if o.difference]
    if not differences:
        return ""
    text = (
        f"Δ: arm minus {results.baseline}{unit_of(outcomes, ' in percentage points')} of test "
        f"{heading_of(outcomes)}: the mean of the paired differences, over the seeds that both "
        "arms have finished."
    )
    compared = sum(d.low is not None for d in differences)
    if not compared:
        return f"{text} One seed gives no interval."
    limits = [recipe.data.limit for recipe in _recipes(results)]
    drawn = any(isinstance(limit, int) or (limit and "test" in limit) for limit in limits)
    images = ", each with its own test images" if drawn else ", on these test images only"
    return (
        f"{text} In brackets: the {CONFIDENCE:.0%} confidence interval, Student's t of the paired "
        f"differences. It covers the variation over seeds{images}, and is not corrected for "
        f"multiple comparisons (here {compared}): of {round(1 / (1 - CONFIDENCE))} such intervals "
        "about one misses the true difference."
    )


def _costing(results: Results) -> str:
    ratio = f"; x {results.baseline}: the median of the seeds' ratios"
    compared = ratio if any(o.cost.ratio for o in results.outcomes) else ""
    return (
        f"Seconds and images/s: training only{compared}. They do not measure speed if the machine "
        "did other work as well. Parameters: of the exported student, and in training."
    )


def _failures(rows: Sequence[Row]) -> str:
    return "\n".join(
        f"- {row.cells[seed]}: {' '.join(reason.split())}"
        for row in rows
        for seed, reason in row.failures.items()
    )


def _environment(results: Results) -> str:
    """Return hardware and versions as a list; if runs differ, each with its number of runs."""
    keys = dict.fromkeys(key for run in results.runs for key in run.environment)
    lines = []
    for key in keys:
        found = Counter(str(run.environment.get(key, "unknown")) for run in results.runs)
        each = [f"{value} ({counted(n, 'run')})" for value, n in found.items()]
        lines.append(f"- {key}: {next(iter(found)) if len(found) == 1 else ', '.join(each)}")
    return "\n".join(lines)
