"""The text and tables of results.md."""

from collections.abc import Sequence

from kdx.util.words import counted
from kdx_lab.study.meaning import meaning, where_it_ran
from kdx_lab.study.rows import Results, Row
from kdx_lab.study.tables import heading_of, overview, setting_table, unit_of
from kdx_lab.study.verdict import verdict

__all__ = ["document"]

FIGURES = "Figures: [report.html](report.html)"


def document(
    results: Results, *, title: str, description: str, command: str, tuning: str = ""
) -> str:
    """Return the text of results.md; `tuning` is the content of its section."""
    sections = [
        f"# {title}",
        description.strip(),
        *_tables(results),
        "\n".join(f"- {line}" for line in verdict(results)),
        _section("Chosen values", tuning),
        _section("What the numbers mean", "\n\n".join(meaning(results))),
        _section("Failures", _failures(results.rows)),
        FIGURES,
        _section("Where it ran", _where(results)),
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


def _failures(rows: Sequence[Row]) -> str:
    return "\n".join(
        f"- {row.cells[seed]}: {' '.join(reason.split())}"
        for row in rows
        for seed, reason in row.failures.items()
    )


def _where(results: Results) -> str:
    facts = where_it_ran(run.environment for run in results.runs)
    return "\n".join(f"- {key}: {value}" for key, value in facts.items())
