"""Measure latency, size and memory of the teacher, the student and the exports of runs.

kdx bench runs/<name> [runs/<name> ...] [--batch 1,32] [--threads 1]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from kdx.commands.shared import add_common, positive, terminal
from kdx.util.words import counted, in_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx bench`."""
    add = parser.add_argument
    add("students", nargs="+", type=Path, metavar="RUN", help="a run directory or a weight file")
    add("--batch", type=_batches, default=(1, 32), metavar="1,32", help="sizes of batches (1,32)")
    add("--threads", type=positive, default=1, metavar="N", help="threads of each (default: 1)")
    add("--recipe", type=Path, help="the recipe (default: the recipe.yaml beside the student)")
    add("--json", action="store_true", help="print one JSON object")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Measure and print a table for each student."""
    from rich.table import Table

    from kdx.exporting.bench import bench

    options = {key: vars(args)[key] for key in ("threads", "recipe", "plugins", "output_root")}
    found = {str(path): bench(path, batches=args.batch, **options) for path in args.students}
    if args.json:
        print(json.dumps(found))
        return
    for path, rows in found.items():
        table = Table("", "size", "batch", "median ms", "p95 ms", "memory", box=None, title=path)
        for row in rows:
            table.add_row(row["name"], in_bytes(row["bytes"]), str(row["batch"]), *_cells(row))
        terminal().print(table)
        for row in rows:
            if "problem" in row:
                print(f"  {row['name']} at batch {row['batch']}: {row['problem']}")
    print(f"On the CPU, {counted(args.threads, 'thread')}; medians of interleaved rounds.")
    print("Size: weights or file. Memory: peak of opening it and one forward, without the runtime.")


def _cells(row: dict[str, Any]) -> tuple[str, str, str]:
    if "problem" in row:
        return "-", "-", "-"
    memory = "-" if row["peak_bytes"] is None else in_bytes(row["peak_bytes"])
    return f"{row['median_ms']:.3f}", f"{row['p95_ms']:.3f}", memory


def _batches(text: str) -> tuple[int, ...]:
    return tuple(positive(each) for each in text.split(","))
