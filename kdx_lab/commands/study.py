"""Run a study: train recipes in variants and seeds, and write one table of the results.

kdx study configs/studies/<dataset>/<study>.yaml [key=value ...]

Running the same command again resumes an interrupted study, also on other machines (--on).
--slurm.KEY=VALUE passes sbatch's options on: --slurm.partition=gpu --slurm.time=4:00:00
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdx.commands.shared import add_common, terminal
from kdx.recipe import allow

if TYPE_CHECKING:
    from kdx_lab.executors.task import Executor
    from kdx_lab.study.grid import Grid

__all__ = ["add_arguments", "run", "schema"]

WHERE = ("local", "ray", "slurm")
SLURM = "--slurm."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx study`; each `--slurm.KEY` is made an option when it is met."""
    add = parser.add_argument
    add("study", metavar="STUDY", help="a YAML study")
    add("overrides", nargs="*", metavar="key=value", help="e.g. seeds=[7] overrides.epochs=30")
    add("--on", choices=WHERE, default="local", help="where runs train (default: this machine)")
    add("--jobs", type=int, metavar="N", help="train N runs at a time (default 1; slurm: any)")
    add("--address", default="", metavar="ADDRESS", help="of a Ray cluster (default: a new one)")
    add("--slurm", action="append", default=[], metavar="KEY=VALUE", help="an option of sbatch")
    add("--report", action="store_true", help="only write the tables of the finished runs")
    add("--dry-run", action="store_true", help="only list the runs; on slurm, print its script")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Run what is not finished, or only report; errors as `open_study` and `conduct`."""
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: must be 1 or more")
    _check_options(args)
    allow(args.plugins)
    from kdx_lab.study.grid import open_study

    grid = open_study(
        args.study, args.overrides, plugins=args.plugins, output_root=args.output_root
    )
    console = terminal()
    if args.dry_run:
        from kdx_lab.study.planned import show

        text = _script(args, grid) if args.on == "slurm" else ""
        show(grid, console)
        if text:
            of = " of the final runs, after tuning" if grid.study.tune else ""
            print(f"\nThe script{of}:\n\n{text}")
        return
    with console.status("importing torch"):
        from kdx_lab.study.conduct import conduct, report
    if args.report:
        report(grid, console, command=_command(args))
    else:
        conduct(grid, console, _executor(args, grid.directory / "logs"), command=_command(args))


def _script(args: argparse.Namespace, grid: "Grid") -> str:
    from kdx_lab.executors.slurm import script

    return script(grid.directory / "logs", _slurm(args), len(grid.cells))


def _executor(args: argparse.Namespace, logs: Path) -> "Executor":
    """Return what trains the runs; ValueError if its package is missing."""
    if args.on == "ray":
        from kdx_lab.executors.ray import Ray

        return Ray(args.address)
    if args.on == "slurm":
        from kdx_lab.executors.slurm import Slurm

        return Slurm(logs, _slurm(args))
    from kdx_lab.executors.local import Local

    return Local(args.jobs or 1)


def _check_options(args: argparse.Namespace) -> None:
    """Raise ValueError for options of another place than `--on`."""
    given = {"--address": (args.address, "ray"), "--slurm": (args.slurm, "slurm")}
    for option, (value, place) in given.items():
        if value and args.on != place:
            raise ValueError(f"{option} is for --on {place}, and this is --on {args.on}")
    if args.jobs and args.on == "ray":
        raise ValueError("--jobs is for --on local and slurm: Ray starts what its machines hold")
    for each in args.slurm:
        if "=" not in each:
            raise ValueError(f"--slurm.{each}: write --slurm.KEY=VALUE")


def _slurm(args: argparse.Namespace) -> dict[str, str]:
    given = dict(each.split("=", 1) for each in args.slurm)
    return ({"array_parallelism": str(args.jobs)} if args.jobs else {}) | given


def schema() -> dict[str, Any]:
    """Return the JSON schema of a study."""
    from kdx_lab.study.schema import json_schema

    return json_schema()


def _command(args: argparse.Namespace) -> str:
    """Return the command line that runs the study."""
    words = ["kdx", "study", args.study, *args.overrides]
    words += ["--on", args.on] if args.on != "local" else []
    words += ["--jobs", str(args.jobs)] if args.jobs else []
    words += [f"--address={args.address}"] if args.address else []
    words += [f"{SLURM}{each}" for each in args.slurm]
    words += [f"--plugin={name}" for name in args.plugins]
    words += [f"--output-root={args.output_root}"] if args.output_root != "runs" else []
    return shlex.join(words)
