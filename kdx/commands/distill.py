"""Train a compact network from a recipe.

kdx distill configs/<dataset>/<recipe>.yaml [key=value ...]

Trains in one process, or in N with --processes N. A launcher works as well:
accelerate launch --multi_gpu --num_processes N -m kdx distill RECIPE
"""

import argparse
import os
from pathlib import Path
from typing import Any

from kdx.commands.scale import add_scale, asked
from kdx.commands.shared import add_recipe, load_recipe, positive, terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx distill`."""
    add_recipe(parser)
    add = parser.add_argument
    add("--processes", type=positive, metavar="N", help="train in N processes, one per GPU")
    add("--dry-run", action="store_true", help="build everything, print the plan and the cost")
    add_scale(parser, "with --dry-run: ")
    add("--fork", type=Path, metavar="CHECKPOINT", help="start from the student of another run")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace a run of that name")
    existing.add_argument("--resume", action="store_true", help="resume the run, if there is one")


def run(args: argparse.Namespace) -> None:
    """Train, in processes of their own if more than one is asked for.

    Raises ValueError for --processes if a launcher started this process; else as `kdx.run.run`.
    """
    scale = asked(args)
    if scale and not args.dry_run:
        raise ValueError(
            "--machines and --gpus only say what a run would need: add --dry-run. To train on "
            "several machines, start a launcher on each: docs/running.md"
        )
    if scale and (args.processes or 1) > 1:
        raise ValueError(
            f"--processes {args.processes}: --machines and --gpus scale what one process takes: "
            "leave it out"
        )
    if args.dry_run and (args.fork or args.resume):
        flag = "--fork" if args.fork else "--resume"
        raise ValueError(f"{flag}: a dry run is of a new run from scratch: leave one of them out")
    if args.processes:
        if world := os.environ.get("WORLD_SIZE"):
            raise ValueError(
                f"--processes {args.processes}: a launcher has already started this process "
                f"(WORLD_SIZE={world}); use one of the two"
            )
        args.overrides.append(f"processes={args.processes}")
    recipe = load_recipe(args)
    if (args.processes or 1) > 1:
        from kdx.commands.launch import launch

        launch(args.processes, _arguments(args))
    elif args.dry_run:
        from kdx.commands.plan import dry_run

        dry_run(recipe, terminal(), **scale)
    else:
        from kdx.run.run import run

        options: dict[str, Any] = {"fork": args.fork} if args.fork else {}
        run(recipe, terminal(), overwrite=args.overwrite, resume=args.resume, **options)


def _arguments(args: argparse.Namespace) -> list[str]:
    """Return the command line of each process: all of `args` but --processes."""
    given = {"overwrite": args.overwrite, "resume": args.resume, "dry-run": args.dry_run}
    flags = [f"--{name}" for name, is_given in given.items() if is_given]
    flags += ["--fork", str(args.fork)] if args.fork else []
    plugins = [f"--plugin={name}" for name in args.plugins]
    return [args.recipe, *args.overrides, *flags, *plugins, f"--output-root={args.output_root}"]
