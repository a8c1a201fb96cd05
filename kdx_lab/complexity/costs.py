"""All counted costs of a recipe's networks, and how they are printed."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from kdx_lab.complexity.counting import Counts, Shape, count
from kdx_lab.complexity.training import StepCost, step_cost
from kdx_lab.complexity.variants import Variants

__all__ = ["COMPACT", "NetworkCost", "costs", "in_units", "print_wide", "size", "table"]

COMPACT = "compact"


@dataclass(frozen=True)
class NetworkCost:
    """The cost of an image, forward, and of a training step on a batch."""

    counts: Counts
    step: StepCost


def costs(variants: Variants) -> dict[str, NetworkCost]:
    """Count the networks as trained, by mode, and last the compact one."""
    networks = {**variants.trained, COMPACT: variants.compact}
    return {
        name: NetworkCost(
            count(network, variants.batch, functional=variants.functional),
            step_cost(network, variants.batch),
        )
        for name, network in networks.items()
    }


def in_units(number: float) -> str:
    """Return "57.49M" or "2,586.02G" for a number of operations."""
    return f"{number / 1e9:,.2f}G" if number >= 1e9 else f"{number / 1e6:,.2f}M"


def size(batch: Shape) -> str:
    """Return a batch [B, C, H, W] as text: "128 x 3 x 32 x 32"."""
    return " x ".join(map(str, batch))


def table(headings: Sequence[str]) -> Table:
    """Return a table with a column of names, and columns of numbers."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="right" if index else "left", no_wrap=True)
    return made


def print_wide(made: Table, console: Console) -> None:
    """Print a table in its full width, even if the terminal is narrower."""
    needed = Measurement.get(console, console.options.update(max_width=1000), made).maximum
    before = console.width
    console.width = max(before, needed)
    console.print(made, highlight=False)
    console.width = before
