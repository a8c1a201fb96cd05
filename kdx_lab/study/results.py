"""The files of a study: results.md, results.json and report.html."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdx.report.page import FILE, write_page
from kdx.util.files import write_whole
from kdx_lab.analysis.bands import write_numbers
from kdx_lab.study.cell import named
from kdx_lab.study.document import document
from kdx_lab.study.meaning import meaning
from kdx_lab.study.page import study_page
from kdx_lab.study.rows import Results, Row
from kdx_lab.study.statistics import CONFIDENCE
from kdx_lab.study.verdict import verdict

__all__ = ["kept_failures", "write_results"]

FORMAT = 1


def write_results(
    directory: Path,
    results: Results,
    *,
    title: str,
    description: str = "",
    command: str = "",
    tuning: str = "",
) -> Path:
    """Write results.json, results.md and report.html, with figures; return results.md.

    The study may be incomplete.
    """
    about = {"format": FORMAT, "title": title, "description": description, "command": command}
    write_numbers(directory / "results.json", about | _plain(results))
    path = directory / "results.md"
    text = document(
        results,
        title=title,
        description=description,
        command=command,
        tuning=tuning,
    )
    write_whole(path, text)
    write_page(study_page(directory), directory / FILE)
    return path


def kept_failures(directory: Path) -> dict[str, str]:
    """Return why runs failed, by `str(cell)`, from results.json; {} if it cannot be read."""
    try:
        rows = json.loads((directory / "results.json").read_text(encoding="utf-8"))["rows"]
        return {
            named(row["setting"], row["arm"], int(seed)): reason
            for row in rows
            for seed, reason in row["failures"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _plain(results: Results) -> dict[str, Any]:
    """Return the results as nested plain values, metrics in [0, 1]."""
    return {
        "baseline": results.baseline,
        "errors": results.errors,
        "confidence": CONFIDENCE,
        "planned": results.planned,
        "finished": len(results.runs),
        "verdict": verdict(results),
        "meaning": meaning(results),
        "rows": [_plain_row(row) for row in results.rows],
    }


def _plain_row(row: Row) -> dict[str, Any]:
    return {
        "setting": row.setting,
        "arm": row.arm,
        "planned": list(row.cells),
        "failures": dict(row.failures),
        "outcome": asdict(row.outcome) if row.outcome else None,
        "runs": {seed: asdict(run) for seed, run in row.runs.items()},
    }
