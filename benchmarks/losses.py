"""The cost of each distillation loss in training: step time and peak memory beside plain KD.

    python -m benchmarks.losses

A step is kdx's own: both networks' forward passes, the losses, backward and optimizer, on one batch
of digits in memory. Losses, layers and networks (ResNet-32x4 to ResNet-8x4) are those of the
study of all methods on CIFAR-100; weights are random, which cost the same.
"""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from benchmarks.memory import peak_memory
from benchmarks.output import TableRow, options, selected, show, write
from kdx.commands.shared import guarded
from kdx.recipe import Recipe
from kdx.training.job import Job, build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner
from kdx_lab.complexity.rounds import Contender, Rounds, Step, measure
from kdx_lab.study.grid import open_study

__all__ = ["main"]

STUDY = Path(__file__).resolve().parents[1] / "configs/studies/cifar100/methods.yaml"
BASE = "kd"
LARGEST: Mapping[str, str] = {
    **dict.fromkeys(("pkt", "sp", "cc"), "B²"),
    "rkd": "B² max(B, D)",
    "nst": "B min(C, HW)²",
    "crd": "2 N d",
}
NOTE = """Times are medians of the rounds [quartiles]. largest: the largest tensor that a loss
makes, if not of the size of features or logits, in numbers: B samples, D features of one, C
channels, HW positions, N training images, d features of an embedding."""


def main(arguments: list[str] | None = None) -> None:
    """Measure the selected losses and KD, print the table, write JSON with --json."""
    args = _parser().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    recipes = _recipes(args)
    names = selected(list(recipes), args.only)
    names = [BASE, *(name for name in names if name != BASE)]
    jobs = {name: build(recipes[name], teacher_weights=False) for name in names}
    threads = torch.get_num_threads()
    accelerator = accelerator_for(jobs[BASE])
    torch.set_num_threads(threads)
    size = args.batch_size
    contenders = [Contender(name, partial(_step, jobs[name], accelerator), size) for name in names]
    rounds = measure(contenders, rounds=args.rounds)
    peaks = {name: _peak(recipes[name], accelerator) for name in names}
    rows = [_row(name, rounds, size, peaks) for name in names]
    networks = f"{size} x {args.pixels}², {args.rounds} rounds"
    show(f"Losses, {networks}, {torch.get_num_threads()} threads", rows, Console(), note=NOTE)
    if args.json:
        write(args.json, rows, rounds=args.rounds, pixels=args.pixels, batch_size=size)


def _parser() -> argparse.ArgumentParser:
    parser = options(__doc__, rounds=7)
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument("--pixels", type=int, default=32, metavar="N", help="default: 32")
    return parser


def _recipes(args: argparse.Namespace) -> dict[str, Recipe]:
    """Return the recipes of the study's methods by name, on the digits."""
    data = f"{{use: digits, size: {args.pixels}, channels: 3, batch_size: {args.batch_size}}}"
    grid = open_study(STUDY, ["seeds=[0]", f"overrides.data={data}"])
    return {cell.arm: cell.recipe for cell in grid.cells if cell.recipe.teacher}


def _step(job: Job, accelerator: Accelerator) -> Step:
    runtime = Runtime(job, accelerator)
    runner = StageRunner(runtime, job.stages[0])
    batch = next(iter(runtime.loader))
    return lambda: runner.step(batch, len(batch.targets), EpochStats())


def _peak(recipe: Recipe, accelerator: Accelerator) -> int:
    """Return the peak memory of a step in bytes, both networks included."""
    make = partial(build, recipe, teacher_weights=False)
    return peak_memory(lambda: _step(make(), accelerator), accelerator.device)


def _row(name: str, rounds: Rounds, batch_size: int, peaks: Mapping[str, int]) -> TableRow:
    return {
        "loss": name,
        "ms a step": 1000 * batch_size / rounds.speed(name).median,
        "time to kd": rounds.ratio(BASE, name),
        "peak MB": peaks[name] / 1e6,
        "memory to kd": peaks[name] / peaks[BASE],
        "largest": LARGEST.get(name),
    }


if __name__ == "__main__":
    sys.exit(guarded(main))
