"""What a run needs on many GPUs: arithmetic on what a dry run has measured on one device."""

import argparse
from dataclasses import dataclass

from kdx.commands.shared import positive
from kdx.util.words import counted, in_bytes

LINKS = (10, 25, 100)  # Gb/s between machines, to choose from
FEW = 32  # images: a BatchNorm that sees fewer has noisy statistics
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Measured:
    """A run as a dry run has measured it on one device.

    `seconds` are those of all `steps` with global batches of `batch_size`; `compact` and `trained`
    count parameters, `slots` are the tensors that the optimizer keeps of each. `memo` is in bytes,
    `checkpoints` are those written, of which `kept` stay. `on_gpu` is false on a CPU.
    """

    seconds: float
    steps: int
    batch_size: int
    compact: int
    trained: int
    slots: int
    memo: int
    checkpoints: int
    kept: int
    on_gpu: bool = True


def add_scale(parser: argparse.ArgumentParser, when: str = "") -> None:
    """Add --machines and --gpus, which `asked` reads; `when` begins their help."""
    add = parser.add_argument
    add("--machines", type=positive, metavar="N", help=f"{when}what N machines need")
    add("--gpus", type=positive, metavar="M", help=f"{when}with M GPUs each (default 1)")


def asked(args: argparse.Namespace) -> dict[str, int]:
    """Return the numbers of machines and of GPUs on each, {} if neither is given."""
    given = args.machines or args.gpus
    return {"machines": args.machines or 1, "gpus": args.gpus or 1} if given else {}


def check_share(batch_size: int, machines: int, gpus: int) -> None:
    """Raise ValueError if a process would get fewer than two images of a batch."""
    world = machines * gpus
    if batch_size < 2 * world:
        raise ValueError(
            f"--machines {machines} --gpus {gpus}: {world} processes would get "
            f"{batch_size / world:.2g} images of a batch of {batch_size}: raise data.batch_size to "
            f"{2 * world} or more"
        )


def scaled(run: Measured, machines: int, gpus: int) -> list[str]:
    """Return lines on time, input, network and disk for `machines` with `gpus` each.

    A ring all-reduce of G bytes over W processes sends and receives 2 (W - 1) / W G on each
    (Patarasuk and Yuan 2009), and as much on the link of each machine.
    """
    world = machines * gpus
    each, rate = run.batch_size / world, run.steps * run.batch_size / run.seconds
    note = "; BatchNorm sees these only" if each < FEW else ""
    hours, gradients = run.seconds / world / 3600, FLOAT * run.trained
    traffic = 2 * (world - 1) / world * gradients
    step = run.seconds / run.steps / world
    links = ", ".join(
        f"{8 * traffic / (10**9 * link) * 1000:,.1f} ms at {link} Gb/s" for link in LINKS
    )
    unit, this = ("GPU", "one") if run.on_gpu else ("device", "CPU, which says nothing of GPUs")
    saved = FLOAT * run.trained * (1 + run.slots)
    where = f"{counted(machines, 'machine')} x {counted(gpus, 'GPU')}"
    lines = [
        f"scale: {where}: {counted(world, 'process', 'processes')} of {each:,.4g} images a step"
        f"{note}",
        f"time: {_hours(hours)} h, {_hours(hours * world)} {unit} hours, if {world} devices are "
        f"{world} times as fast as this {this} ({rate:,.0f} images/s); {1000 * step:,.1f} ms a "
        "step",
        f"input: {rate * world / machines:,.0f} images/s to read and augment on each machine",
        f"network: {in_bytes(gradients)} of gradients a step (compact: "
        f"{in_bytes(FLOAT * run.compact)})",
    ]
    if machines > 1:
        lines[-1] += f"; {in_bytes(int(traffic))} each way between machines: {links}"
    lines.append(
        f"disk: checkpoints of {in_bytes(saved)}, {run.checkpoints:,} written and {run.kept} kept "
        "on the first machine"
        + (f"; memo {in_bytes(run.memo)} on each machine" if run.memo else "")
    )
    return lines


def _hours(hours: float) -> str:
    if hours < 0.001:
        return "under 0.001"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
