"""Shared by the benchmarks: command-line options, tables and JSON."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kdx.run.environment import processor
from kdx_lab.complexity.costs import print_wide
from kdx_lab.complexity.rounds import Quartiles

__all__ = ["TableRow", "options", "selected", "show", "write"]

TableRow = Mapping[str, Quartiles | float | str | None]
"""One line of a table, by column; None if empty."""


def options(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark; `rounds` is the default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"number of rounds (default: {rounds})"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: torch's)")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="rows to run, e.g. *CL*")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    return parser


def selected(names: Sequence[str], pattern: str) -> list[str]:
    """Return the names that match, ignoring case; ValueError if there are none."""
    found = [name for name in names if fnmatchcase(name.lower(), pattern.lower())]
    if not found:
        raise ValueError(f"--only {pattern}: no row matches. Known: {', '.join(names)}")
    return found


def show(title: str, rows: Sequence[TableRow], console: Console, *, note: str = "") -> None:
    """Print a table with the columns of its first row, in its full width, and a note below."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column in rows[0]:
        words = any(isinstance(row[column], str) for row in rows)
        table.add_column(column, justify="left" if words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console.print(title, style="bold", highlight=False, markup=False, soft_wrap=True)
    print_wide(table, console)
    if note:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def write(path: Path, rows: Sequence[TableRow], **about: object) -> None:
    """Write the rows and the environment; `about` is added to the latter."""
    whole = {
        "command": shlex.join(
            ["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **about,
        "rows": [{column: _plain(value) for column, value in row.items()} for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _cell(value: Quartiles | float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else str(value)


def _plain(value: Quartiles | float | str | None) -> object:
    return asdict(value) if isinstance(value, Quartiles) else value
