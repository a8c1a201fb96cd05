"""The costs of the networks of one recipe, as a table and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console

from kdx.launch.memory import check_fits
from kdx.util.printing import say
from kdx.util.words import counted as in_words
from kdx.util.words import in_bytes
from kdx_lab.complexity.costs import COMPACT, NetworkCost, costs, in_units, print_wide, size, table
from kdx_lab.complexity.counting import Shape
from kdx_lab.complexity.speed import Speeds, speeds, where
from kdx_lab.complexity.variants import Variants

__all__ = ["examine"]

BUDGET = 100e9
"""Multiply-adds of a training step above which speed is only measured with `--measure`."""
ON_GPU = 100  # times as many
FEWEST = 2  # images in a batch, for BatchNorm
HEADINGS = ("", "parameters", "MACs", "MACs to train", "peak memory")
SPEEDS = ("forward img/s", "training img/s")
NOTE = """\
MACs (multiply-adds, half of the FLOPs of torch's counter): forward, per image. MACs to train:
forward and backward, per image. Peak memory: of tensors in a training step, without the optimizer's
state. These are counted, not measured."""


def examine(
    name: str, variants: Variants, console: Console, *, rounds: int, measure: bool | None = None
) -> dict[str, Any]:
    """Print the costs of the networks; return the same for JSON.

    Speeds are measured in `rounds` rounds, unless `measure` is false, on the largest part of the
    batch that takes seconds. If that is too small: on two images if `measure` is true, else not at
    all. ValueError if the images do not fit into memory.
    """
    counted = costs(variants)
    batch = None if measure is False else _measurable(variants.batch, counted, must=measure)
    measured = _measured(variants, counted, batch, rounds) if batch else None
    title = f"{name}, batches of {size(variants.batch)}"
    say(console, title, style="bold")
    _print(variants.batch, counted, measured, console)
    notes = [NOTE]
    if measured and batch:
        over = in_words(rounds, "round")
        notes.append(f"Speeds: on {size(batch)}, {where()}, median of {over}.")
    elif measure is None:
        notes.append("Measuring speeds would take long here: pass --measure to do so.")
    say(console, *notes)
    networks = {each: asdict(cost) for each, cost in counted.items()}
    plain = {"name": name, "batch": list(variants.batch), "networks": networks}
    return plain | ({"measured": measured.plain() | {"batch": batch}} if measured else {})


def _measurable(
    batch: Shape, counted: Mapping[str, NetworkCost], *, must: bool | None
) -> Shape | None:
    """Return the part of a batch whose costliest step is within the budget.

    If that is too small: the smallest batch if it `must` be measured, else None.
    """
    costliest = max(cost.step.macs for cost in counted.values()) / batch[0]
    budget = BUDGET * (ON_GPU if torch.cuda.is_available() else 1)
    images = min(batch[0], int(budget / max(costliest, 1)))
    if images >= min(FEWEST, batch[0]):
        return (images, *batch[1:])
    return (min(FEWEST, batch[0]), *batch[1:]) if must else None


def _measured(
    variants: Variants, counted: Mapping[str, NetworkCost], batch: Shape, rounds: int
) -> Speeds:
    if not torch.cuda.is_available():
        most = max(cost.step.peak for cost in counted.values()) * batch[0] // variants.batch[0]
        check_fits(most, f"measuring {in_words(batch[0], 'image')}")
    return speeds({**variants.trained, COMPACT: variants.compact}, batch, rounds=rounds)


def _print(
    batch: Shape, counted: Mapping[str, NetworkCost], measured: Speeds | None, console: Console
) -> None:
    made = table((*HEADINGS, *SPEEDS) if measured else HEADINGS)
    for name, cost in counted.items():
        made.add_row(
            name if name in (COMPACT, "trained") else f"trained, {name}",
            f"{cost.counts.parameters:,}",
            in_units(cost.counts.macs),
            in_units(cost.step.macs / batch[0]),
            in_bytes(cost.step.peak),
            *(
                f"{rounds.speed(name).median:,.1f}"
                for rounds in ((measured.forward, measured.training) if measured else ())
            ),
        )
    print_wide(made, console)
