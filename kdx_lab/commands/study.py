"""Run a study: train recipes in variants and seeds, and write one table of the results.

kdx study configs/studies/<dataset>/<study>.yaml [key=value ...]

Running the same command again resumes an interrupted study.
"""

import argparse
import shlex
from typing import Any

from kdx.commands.shared import add_common, terminal
from kdx.recipe import allow

__all__ = ["add_arguments", "run", "schema"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx study`."""
    add = parser.add_argument
    add("study", metavar="STUDY", help="a YAML study")
    add("overrides", nargs="*", metavar="key=value", help="e.g. seeds=[7] overrides.epochs=30")
    add("--jobs", type=int, default=1, metavar="N", help="train N runs at a time (default 1)")
    add("--report", action="store_true", help="only write the tables of the finished runs")
    add("--dry-run", action="store_true", help="only list the runs")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Run what is not finished, or only report; errors as `open_study` and `conduct`."""
    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: must be 1 or more")
    allow(args.plugins)
    from kdx_lab.study.grid import open_study

    grid = open_study(
        args.study, args.overrides, plugins=args.plugins, output_root=args.output_root
    )
    console = terminal()
    if args.dry_run:
        from kdx_lab.study.planned import show

        show(grid, console)
        return
    with console.status("importing torch"):
        from kdx_lab.study.conduct import conduct, report
    if args.report:
        report(grid, console, command=_command(args))
    else:
        conduct(grid, console, jobs=args.jobs, command=_command(args))


def schema() -> dict[str, Any]:
    """Return the JSON schema of a study."""
    from kdx_lab.study.schema import json_schema

    return json_schema()


def _command(args: argparse.Namespace) -> str:
    """Return the command line that runs the study."""
    words = ["kdx", "study", args.study, *args.overrides]
    words += ["--jobs", str(args.jobs)] if args.jobs > 1 else []
    words += [f"--plugin={name}" for name in args.plugins]
    words += [f"--output-root={args.output_root}"] if args.output_root != "runs" else []
    return shlex.join(words)
