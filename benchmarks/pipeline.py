"""The cost of a whole recipe compared with a bare loop, part by part.

    python -m benchmarks.pipeline

The bare loop trains the compact network with cross-entropy on one batch in memory. Each row adds a
part of kdx to another row: views, the step (objective, Accelerate, sums of the losses), schedule,
checks and log, the expansion, the teacher. A round is an epoch of the first --limit images.
Teachers have random weights, which cost the same.
"""

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from benchmarks.arms import ARMS, BARE, WARMUP, Bench
from benchmarks.output import TableRow, options, selected, show, write
from kdx.commands.shared import guarded
from kdx_lab.complexity.rounds import Contender, Quartiles, Rounds, measure

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "configs/fashion_mnist/resnet18_to_smallnet7_ck_fc_kd.yaml"
CL = ("student.transforms.0.conv=cl", "student.transforms.0.linear=false")
NOTE = """Each row adds its part to the row in the last column. Speeds and their ratios are medians
of the rounds [quartiles]."""


def main(arguments: list[str] | None = None) -> None:
    """Measure the selected arms, print the table, write JSON with --json."""
    args = _parser().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    names = selected(list(ARMS), args.only)
    with TemporaryDirectory() as directory, ExitStack() as stack:
        common = (*CL, f"data.limit={args.limit}", f"data.batch_size={args.batch_size}")
        bench = Bench(args.recipe, Path(directory), common, stack)
        images = bench.images
        arms = [Contender(name, partial(ARMS[name].build, bench), images) for name in names]
        rounds = measure(arms, rounds=args.rounds, repeats=1, warmup=WARMUP)
    rows = [_row(name, rounds, args.batch_size) for name in names]
    title = f"{args.recipe.stem} with conv: cl, {args.rounds} rounds of {images:,} images"
    show(f"{title}, {torch.get_num_threads()} threads", rows, Console(), note=NOTE)
    if args.json:
        write(args.json, rows, rounds=args.rounds, recipe=args.recipe.stem, images=images)


def _parser() -> argparse.ArgumentParser:
    parser = options(__doc__, rounds=7)
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="default: 128")
    parser.add_argument(
        "--limit", type=int, default=12800, metavar="N", help="images per round (default: 12800)"
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        default=RECIPE,
        help="a recipe with a teacher and an ExpandNet",
    )
    return parser


def _row(name: str, rounds: Rounds, batch_size: int) -> TableRow:
    base, alone = ARMS[name].base, ARMS[name].alone
    speed = rounds.speed(name)
    return {
        "": name,
        "img/s": None if alone else speed,
        "ms a batch": 1000 * batch_size / speed.median,
        "of the bare loop": _ratio(rounds, name, BARE),
        "of": _ratio(rounds, name, base),
        "this row": base,
    }


def _ratio(rounds: Rounds, name: str, to: str | None) -> Quartiles | None:
    measured = to in rounds.speeds and name in rounds.speeds
    return rounds.ratio(name, to) if to and measured and not ARMS[name].alone else None


if __name__ == "__main__":
    sys.exit(guarded(main))
