"""The speed of a live teacher: in float32, as it runs by default, and in bf16.

    python -m benchmarks.teacher

Random weights, which cost the same, and images of random pixels, channels-last as in a run.
"""

import argparse
import sys
from functools import partial

import torch
from rich.console import Console
from torchvision import models

from benchmarks.output import TableRow, options, selected, show, write
from kdx.commands.shared import guarded
from kdx.models.teacher import Teacher
from kdx.protocols import InputSpec
from kdx_lab.complexity.rounds import Contender, Step, measure

__all__ = ["main"]

NETWORKS = ("resnet18", "resnet50", "resnet152", "mobilenet_v2")
ARMS = {"float32": None, "bf16": "bf16"}
NOTE = """Medians of the rounds [quartiles]. error: the largest difference of an output from that in
float32, as a share of the largest output."""


def main(arguments: list[str] | None = None) -> None:
    """Measure the selected networks, print the table, write JSON with --json."""
    args = _parser().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = [_row(name, args) for name in selected(NETWORKS, args.only)]
    about = f"{args.batch_size} x {args.pixels}², {args.rounds} rounds"
    show(f"Teachers, {about}, {torch.get_num_threads()} threads", rows, Console(), note=NOTE)
    if args.json:
        write(args.json, rows, rounds=args.rounds, pixels=args.pixels, batch_size=args.batch_size)


def _parser() -> argparse.ArgumentParser:
    parser = options(__doc__, rounds=7)
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument("--pixels", type=int, default=64, metavar="N", help="default: 64")
    return parser


def _row(name: str, args: argparse.Namespace) -> TableRow:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = InputSpec(3, args.pixels, (0.0,), (1.0,))
    network = models.get_model(name, weights=None).to(memory_format=torch.channels_last)
    images = torch.randn(args.batch_size, 3, args.pixels, args.pixels, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    teachers = {
        arm: Teacher(network, own=spec, given=spec, precision=precision).to(device)
        for arm, precision in ARMS.items()
    }
    exact, found = (teacher(images).logits for teacher in teachers.values())

    def step(teacher: Teacher) -> Step:
        return lambda: teacher(images)

    contenders = [Contender(arm, partial(step, t), len(images)) for arm, t in teachers.items()]
    rounds = measure(contenders, rounds=args.rounds)
    return {
        "teacher": name,
        "float32 img/s": rounds.speed("float32"),
        "bf16 img/s": rounds.speed("bf16"),
        "bf16 / float32": rounds.ratio("bf16", "float32"),
        "error": f"{float((exact - found).abs().max() / exact.abs().max()):.1e}",
    }


if __name__ == "__main__":
    sys.exit(guarded(main))
