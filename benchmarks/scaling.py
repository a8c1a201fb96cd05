"""How the cost of expansion changes with batch size, image size, rate, classes and processes.

    python -m benchmarks.scaling --only 'batch*'

SmallNet-7 as ExpandNet-CL+FC, batch 128, 32 x 32 pixels, rate 4, 10 classes, one process, with
one of these changed at a time. Memory is that of one process, without DDP's buckets. Several
processes share the batch and the cores, with DDP on the CPU: the ratios of a row are to the compact
network in as many processes.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from rich.console import Console
from rich.progress import track
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import expand
from benchmarks.memory import peak_memory
from benchmarks.output import TableRow, options, selected, show, write
from benchmarks.processes import side_by_side
from benchmarks.training import training_step
from kdx.commands.shared import guarded
from kdx.models.students import smallnet
from kdx_lab.complexity.rounds import Contender, Rounds, Step, measure

__all__ = ["Size", "main"]

Mode = Literal["compact", "folded", "unfolded"]
MODES: tuple[Mode, ...] = ("compact", "folded", "unfolded")


@dataclass(frozen=True)
class Size:
    """What is varied. `batch` is shared by the processes."""

    batch: int = 128
    pixels: int = 32
    rate: float = 4
    classes: int = 10
    processes: int = 1


SIZES: Mapping[str, Size] = {
    "default": Size(),
    **{f"batch {n}": Size(batch=n) for n in (16, 32, 64, 256, 512, 1024)},
    **{f"pixels {n}": Size(pixels=n) for n in (16, 64, 96)},
    **{f"rate {n}": Size(rate=n) for n in (1, 2, 8, 16)},
    **{f"classes {n}": Size(classes=n) for n in (100, 1000)},
    **{f"processes {n}": Size(processes=n) for n in (2, 4)},
}
REPEATS = 10  # steps per round of several processes, which must run the same number
NOTE = """img/s and peak MB are the compact network's; other columns are ratios to it: medians of
the rounds [quartiles]."""


def main(arguments: list[str] | None = None) -> None:
    """Measure the selected rows, print the table, write JSON with --json."""
    args = _parser().parse_args(arguments)
    threads = args.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    names = selected(list(SIZES), args.only)
    console = Console()
    rows = [_row(name, args, threads) for name in track(names, console=console, transient=True)]
    title = f"SmallNet-7 CL+FC, {args.rounds} rounds, {threads} threads in all"
    show(title, rows, console, note=NOTE)
    if args.json:
        write(args.json, rows, rounds=args.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = options(__doc__, rounds=9)
    parser.add_argument("--batch-size", type=int, metavar="N", help="instead of each row's own")
    return parser


def _row(name: str, args: argparse.Namespace, threads: int) -> TableRow:
    size = SIZES[name]
    if args.batch_size:
        size = replace(size, batch=args.batch_size)
    several = size.processes > 1
    run = partial(_measure, size, args.rounds, repeats=REPEATS if several else None)
    rounds = side_by_side(run, size.processes, threads) if several else run()
    device = _device(size)
    peaks = {mode: peak_memory(partial(_step, size, mode), device) for mode in MODES}
    return {
        "": name,
        "img/s": rounds.speed("compact"),
        "folded": rounds.ratio("folded", "compact"),
        "unfolded": rounds.ratio("unfolded", "compact"),
        "peak MB": peaks["compact"] / 1e6,
        "folded MB": peaks["folded"] / peaks["compact"],
        "unfolded MB": peaks["unfolded"] / peaks["compact"],
    }


def _measure(size: Size, rounds: int, *, repeats: int | None = None) -> Rounds:
    contenders = [Contender(mode, partial(_step, size, mode), size.batch) for mode in MODES]
    return measure(contenders, rounds=rounds, repeats=repeats)


def _step(size: Size, mode: Mode) -> Step:
    torch.manual_seed(0)
    model: nn.Module = smallnet(kernel_size=7, num_classes=size.classes, image_size=size.pixels)
    if mode != "compact":
        model = expand.expand(model, conv="cl", linear=True, rate=size.rate, mode=mode)
    images = torch.randn(size.batch // size.processes, 3, size.pixels, size.pixels)
    labels = torch.randint(size.classes, (len(images),))
    wrap = DistributedDataParallel if distributed.is_initialized() else nn.Module.train
    return training_step(model, (images, labels), device=_device(size), wrap=wrap)


def _device(size: Size) -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() and size.processes == 1 else "cpu")


if __name__ == "__main__":
    sys.exit(guarded(main))
