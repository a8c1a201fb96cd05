"""What it saves that gradients of factors come from those of compact weights, once a step.

    python -m benchmarks.gradients --only 'MobileNet*'

`two`: two processes that share the batch and the cores, with DDP over gloo; `parts`: one process,
and the batch in four parts. An expanded network trains on its factors, or on `expand.Leaves`.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import expand
from benchmarks.cases import CASES, Case
from benchmarks.output import TableRow, options, selected, show, write
from benchmarks.processes import side_by_side
from benchmarks.training import sgd
from kdx.commands.shared import guarded
from kdx_lab.complexity.rounds import Contender, Rounds, Step, measure

__all__ = ["main"]

WAYS = ("compact", "factors", "leaves")
PROCESSES, PARTS = 2, 4
REPEATS = 5  # steps per round of two processes, which must run the same number
NOTE = """MB: gradients that each process sends in a step. Others: ratios of speeds, medians of
the rounds [quartiles]: on leaves to the same network on its factors, and to the compact one."""


def main(arguments: list[str] | None = None) -> None:
    """Measure the selected cases, print the table, write JSON with --json."""
    args = options(__doc__, rounds=7).parse_args(arguments)
    threads = args.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    names, console = selected(list(CASES), args.only), Console()
    rows = [_row(name, args, threads) for name in track(names, console=console, transient=True)]
    title = f"Gradients of compact weights, {args.rounds} rounds, {threads} threads in all"
    show(title, rows, console, note=NOTE)
    if args.json:
        write(args.json, rows, rounds=args.rounds)


def _row(name: str, args: argparse.Namespace, threads: int) -> TableRow:
    case = CASES[name]
    expanded = _network(case, "leaves")
    compact, factors = (_megabytes(each) for each in (expand.compress(expanded), expanded))
    alike = partial(_measure, case, args.rounds, repeats=REPEATS)
    two = side_by_side(alike, PROCESSES, threads)
    parts = _measure(case, args.rounds, parts=PARTS)
    return {
        "network": name,
        "images": f"{case.batch_size} x {case.pixels}²",
        "factors MB": factors,
        "leaves MB": compact,
        "two: to factors": two.ratio("leaves", "factors"),
        "to compact": two.ratio("leaves", "compact"),
        "parts: to factors": parts.ratio("leaves", "factors"),
        "to compact ": parts.ratio("leaves", "compact"),
    }


def _network(case: Case, way: str) -> nn.Module:
    torch.manual_seed(0)
    network = case.build()
    return network if way == "compact" else expand.expand(network, preset=case.preset)


def _megabytes(network: nn.Module) -> float:
    return sum(p.numel() * p.element_size() for p in network.parameters()) / 1e6


class _OnLeaves(nn.Module):
    """A network and its leaves, for DDP."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.leaves = network, expand.Leaves(network)
        replaced = self.leaves.replaced
        self._ddp_params_and_buffers_to_ignore = [f"network.{name}" for name in replaced]

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def _measure(case: Case, rounds: int, *, parts: int = 1, repeats: int | None = None) -> Rounds:
    builds = {way: partial(_step, case, way, parts) for way in WAYS}
    contenders = [Contender(way, build, case.batch_size) for way, build in builds.items()]
    return measure(contenders, rounds=rounds, repeats=repeats)


def _step(case: Case, way: str, parts: int) -> Step:
    """Return a step on this process's part of a batch, which stays in memory."""
    network = _network(case, way)
    several = distributed.is_initialized()
    rank, world = (distributed.get_rank(), PROCESSES) if several else (0, 1)
    images, labels = (each.chunk(world)[rank] for each in case.batch(network))
    images = images.contiguous(memory_format=torch.channels_last)
    held: Callable[[], AbstractContextManager[object]] = nullcontext
    model = network.train()
    if way == "leaves":
        model = _OnLeaves(network)
        held = model.leaves.held
    if several:
        model = DistributedDataParallel(model)
    optimizer = sgd(network)

    def step() -> None:
        with held():
            for some, targets in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                (F.cross_entropy(model(some), targets) / parts).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    sys.exit(guarded(main))
