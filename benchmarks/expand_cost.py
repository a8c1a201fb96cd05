"""The cost of expansion in training: compact, folded and unfolded, speed and peak memory.

    python -m benchmarks.expand_cost --only 'SmallNet-7*128'

A step is forward, cross-entropy (per pixel or cell if the network predicts these), backward and SGD
with momentum, on one batch in memory. Compact, compact on channels-last images and folded
alternate; unfolded, many times slower, is compared with compact afterwards, in fewer rounds, unless
--no-unfolded is given. With `--transforms OREPA DBB` it is these transforms that are compared, by
their classes' defaults.
"""

import argparse
import sys
from dataclasses import replace
from functools import partial

import torch
from rich.console import Console
from rich.progress import track

import expand
from benchmarks.cases import CASES, Case
from benchmarks.memory import peak_memory
from benchmarks.output import TableRow, options, selected, show, write
from benchmarks.training import training_step
from kdx.commands.shared import guarded
from kdx_lab.complexity.rounds import Contender, Step, measure

__all__ = ["main"]

CONTENDERS = ("compact", "channels last", "folded", "unfolded")
NOTE = """img/s and peak MB are the compact network's in torch's default layout; other columns are
ratios to it: medians of the rounds [quartiles]. to channels last: the folded network, which gets
channels-last images, over the compact one on these. paper: Table 13's ratio, unfolded on a GPU."""

TRANSFORMS = ("OREPA", "DOConv", "RepVGG", "ACNet", "DBB", "MobileOne")
TRANSFORMS_NOTE = """img/s and peak MB are the compact network's; other columns are ratios to it."""


def main(arguments: list[str] | None = None) -> None:
    """Measure the selected rows, print the table, write JSON with --json."""
    args = _parser().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    names = selected(list(CASES), args.only)
    console = Console()
    row = _transforms_row if args.transforms else _row
    rows = [row(name, args, device) for name in track(names, console=console, transient=True)]
    note = TRANSFORMS_NOTE if args.transforms else NOTE
    show(f"Training, {args.rounds} rounds, {_where(device)}", rows, console, note=note)
    if args.json:
        write(args.json, rows, rounds=args.rounds, device=device.type)


def _parser() -> argparse.ArgumentParser:
    parser = options(__doc__, rounds=15)
    parser.add_argument("--batch-size", type=int, metavar="N", help="instead of each row's own")
    parser.add_argument("--pixels", type=int, metavar="N", help="image size, not for SmallNets")
    parser.add_argument(
        "--no-unfolded", action="store_false", dest="unfolded", help="leave out the slowest mode"
    )
    parser.add_argument(
        "--transforms", nargs="+", choices=TRANSFORMS, metavar="NAME", help=", ".join(TRANSFORMS)
    )
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    parser.add_argument("--fused", action="store_true", help="the fused SGD, for all contenders")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    return parser


def _row(name: str, args: argparse.Namespace, device: torch.device) -> TableRow:
    case = CASES[name]
    if args.pixels:
        case = replace(case, pixels=args.pixels)
    size = args.batch_size or case.batch_size
    asked = CONTENDERS if args.unfolded else CONTENDERS[:-1]
    builds = {who: partial(_step, case, who, size, args, device) for who in asked}
    compact, last, folded, *unfolded = (Contender(who, b, size) for who, b in builds.items())
    rounds = measure([compact, last, folded], rounds=args.rounds)
    slow = None
    if unfolded:
        slow = measure([compact, *unfolded], rounds=min(args.rounds, 3), warmup=1)
    peaks = {who: peak_memory(build, device) for who, build in builds.items()}
    return {
        "network": name,
        "images": f"{size} x {case.pixels}²",
        "img/s": rounds.speed("compact"),
        "channels last": rounds.ratio("channels last", "compact"),
        "folded": rounds.ratio("folded", "compact"),
        "to channels last": rounds.ratio("folded", "channels last"),
        "unfolded": slow.ratio("unfolded", "compact") if slow else None,
        "paper": case.paper,
        "peak MB": peaks["compact"] / 1e6,
        "folded MB": peaks["folded"] / peaks["compact"],
        "unfolded MB": peaks["unfolded"] / peaks["compact"] if slow else None,
    }


def _transforms_row(name: str, args: argparse.Namespace, device: torch.device) -> TableRow:
    case = CASES[name]
    if args.pixels:
        case = replace(case, pixels=args.pixels)
    size = args.batch_size or case.batch_size
    asked = ["compact", *args.transforms]
    builds = {who: partial(_step, case, who, size, args, device) for who in asked}
    rounds = measure([Contender(w, b, size) for w, b in builds.items()], rounds=args.rounds)
    peaks = {who: peak_memory(build, device) for who, build in builds.items()}
    row: TableRow = {"network": name, "images": f"{size} x {case.pixels}²"}
    row |= {"img/s": rounds.speed("compact"), "peak MB": peaks["compact"] / 1e6}
    for who in args.transforms:
        row[who] = rounds.ratio(who, "compact")
        row[f"{who} MB"] = peaks[who] / peaks["compact"]
    return row


def _step(
    case: Case, who: str, batch_size: int, args: argparse.Namespace, device: torch.device
) -> Step:
    torch.manual_seed(0)
    model = case.build()
    batch = case.batch(model, batch_size)
    if who in ("folded", "unfolded"):
        model = expand.expand(model, preset=case.preset)
        expand.set_mode(model, "folded" if who == "folded" else "unfolded")
    elif who in TRANSFORMS:
        model = getattr(expand, who)().apply(model)
    return training_step(
        model,
        batch,
        device=device,
        channels_last=who in ("channels last", "folded"),
        bf16=args.bf16,
        fused=args.fused,
    )


def _where(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    sys.exit(guarded(main))
