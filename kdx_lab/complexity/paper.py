"""Table 13 of the ExpandNets paper, recomputed, and costs that it does not have."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import track

from kdx.recipe import load_student
from kdx.util.printing import say
from kdx.util.words import counted, in_bytes
from kdx_lab.complexity.costs import COMPACT, NetworkCost, costs, in_units, print_wide, size, table
from kdx_lab.complexity.speed import Speeds, speeds, where
from kdx_lab.complexity.table13 import TABLE, Expansion, PaperRow, expansion
from kdx_lab.complexity.variants import WAYS, Variants, of_network

__all__ = ["Printed", "rebuild"]

T = TypeVar("T")

SCALES = {"M": 1e6, "G": 1e9}
HEADINGS = (
    *("Table 13: paper = ours", "parameters", "at test", "FLOPs", "at test"),
    *("parameters, all digits", "MACs by torch"),
)
MORE = (
    *("Not in the paper", "batch", "MACs to train", "unfolded", "folded"),
    *("peak memory", "unfolded", "folded", "speed in the paper"),
)
MEASURED = (
    *("Speed / the compact network's", "in the paper", "measured on"),
    *("forward, unfolded", "folded", "training, unfolded", "folded"),
)
TABLE_NOTE = """\
An ExpandNet trains unfolded, as in the paper, and is compressed for test. FLOPs (by the paper's
rules) and MACs (multiply-adds, by torch's counter): per image, forward.
"""
MORE_NOTE = """\
MACs to train: per image, forward and backward. Peak memory: of tensors in a training step, without
the optimizer's state. Both are counted, not measured; unfolded and folded are ratios to the compact
network. Speed in the paper: forward on a GPU, unfolded, as a ratio to the compact network's."""


@dataclass(frozen=True)
class Printed:
    """A figure as the paper prints it, "57.49M", and ours, in units; `place` names it."""

    place: str
    printed: str
    ours: int

    @property
    def written(self) -> str:
        """Our figure, rounded to the printed digits."""
        number, unit = self.printed[:-1], self.printed[-1]
        digits = len(number.partition(".")[2])
        return f"{self.ours / SCALES[unit]:.{digits}f}{unit}"

    @property
    def agrees(self) -> bool:
        """Whether all printed digits are the same."""
        return self.written == self.printed

    def __str__(self) -> str:
        """Return both, a difference in red."""
        if self.agrees:
            return f"{self.printed} = {self.written}"
        return f"[bold red]{self.printed} ≠ {self.written}[/]"


@dataclass(frozen=True)
class Line:
    """A line of the table: the compact network of a row, or one of its expansions."""

    row: PaperRow
    expansion: Expansion | None
    batch: Sequence[int]
    costs: Mapping[str, NetworkCost]

    @property
    def trained(self) -> NetworkCost:
        """The cost of the network that the paper trains."""
        return self.costs["unfolded" if self.expansion else COMPACT]

    @property
    def short(self) -> str:
        """Return "U-Net CL" for an expansion."""
        assert self.expansion is not None
        return f"{self.row.name} {self.expansion.name.removeprefix('ExpandNet-')}"

    @property
    def speed(self) -> float:
        """Return the paper's speed of an expansion, as a ratio to the compact network's."""
        assert self.expansion is not None
        return self.expansion.speed / self.row.speed

    @property
    def cells(self) -> list[Printed]:
        """Return parameters, those at test, FLOPs, those at test."""
        row, printed = self.row, self.expansion or self.row
        name = f"{row.name}, {printed.name}" if self.expansion else row.name
        train, test = self.trained.counts, self.costs[COMPACT].counts
        return [
            Printed(f"{name}: parameters", f"{printed.parameters}M", train.parameters),
            Printed(f"{name}: parameters at test", f"{row.parameters}M", test.parameters),
            Printed(f"{name}: FLOPs", printed.flops, train.paper_flops),
            Printed(f"{name}: FLOPs at test", row.flops, test.paper_flops),
        ]


def rebuild(
    console: Console, *, rows: Sequence[PaperRow] = TABLE, rounds: int, measure: bool = False
) -> dict[str, Any]:
    """Print Table 13 with our figures beside the paper's, and more; return the same for JSON.

    Its `differences` lists the figures that are not the paper's. With `measure`, speeds are
    measured, in `rounds` rounds: minutes on a CPU.
    """
    lines = [
        _line(row, each)
        for row in _tracked(rows, "counting", console)
        for each in (None, *row.expansions)
    ]
    expanded = [line for line in lines if line.expansion]
    measured = {
        id(line): _measure(line, rounds)
        for line in _tracked(expanded if measure else [], "measuring", console)
    }
    _print_table(lines, console)
    _print_more(expanded, console)
    if measure:
        _print_speeds(expanded, measured, console)
        over = counted(rounds, "round")
        say(console, f"Measured: {where()}, median of {over}.")
    cells = [cell for line in lines for cell in line.cells]
    differences = [
        f"{cell.place}: the paper has {cell.printed}, we count {cell.written}"
        for cell in cells
        if not cell.agrees
    ]
    agreeing = f"{len(cells) - len(differences)} of {len(cells)} figures equal the paper's"
    say(console, agreeing, *differences, style="bold")
    plain = [_plain(line, measured.get(id(line))) for line in lines]
    return {"differences": differences, "lines": plain}


def _tracked(items: Sequence[T], what: str, console: Console) -> Iterable[T]:
    quiet = not console.is_terminal or not items
    return track(items, what, console=console, transient=True, disable=quiet)


def _variants(
    row: PaperRow, each: Expansion | None, image: Sequence[int] | None = None
) -> Variants:
    transforms = [expansion(each.preset)] if each else []
    return of_network(load_student({**row.student, "transforms": transforms}), image=image)


def _line(row: PaperRow, each: Expansion | None) -> Line:
    with torch.device("meta"):  # nothing is computed
        variants = _variants(row, each)
    return Line(row, each, variants.batch, costs(variants))


def _measure(line: Line, rounds: int) -> Speeds:
    batch, *sides = line.row.trial
    variants = _variants(line.row, line.expansion, (3, *sides))
    networks = {**variants.trained, COMPACT: variants.compact}
    return speeds(networks, (batch, 3, *sides), rounds=rounds)


def _print_table(lines: Sequence[Line], console: Console) -> None:
    made = table(HEADINGS)
    for line in lines:
        counts = line.trained.counts
        made.add_row(
            f"  {line.expansion.name}" if line.expansion else line.row.name,
            *map(str, line.cells),
            f"{counts.parameters:,}",
            in_units(counts.macs),
        )
    print_wide(made, console)
    say(console, TABLE_NOTE)


def _print_more(expanded: Sequence[Line], console: Console) -> None:
    made = table(MORE)
    for line in expanded:
        steps = {name: cost.step for name, cost in line.costs.items()}
        compact = steps[COMPACT]
        made.add_row(
            line.short,
            size(line.batch),
            in_units(compact.macs / line.batch[0]),
            *(f"{steps[way].macs / compact.macs:.2f}" for way in WAYS),
            in_bytes(compact.peak),
            *(f"{steps[way].peak / compact.peak:.2f}" for way in WAYS),
            f"{line.speed:.2f}",
        )
    print_wide(made, console)
    say(console, MORE_NOTE)


def _print_speeds(
    expanded: Sequence[Line], measured: Mapping[int, Speeds], console: Console
) -> None:
    made = table(MEASURED)
    for line in expanded:
        batch, *sides = line.row.trial
        ours = measured[id(line)]
        made.add_row(
            line.short,
            f"{line.speed:.2f}",
            size((batch, 3, *sides)),
            *(
                f"{rounds.ratio(way, COMPACT).median:.2f}"
                for rounds in (ours.forward, ours.training)
                for way in WAYS
            ),
        )
    print_wide(made, console)


def _plain(line: Line, measured: Speeds | None) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "network": line.row.name,
        "expansion": line.expansion.name if line.expansion else None,
        "paper": {cell.place.rpartition(": ")[2]: cell.printed for cell in line.cells},
        "batch": list(line.batch),
        "networks": {name: asdict(cost) for name, cost in line.costs.items()},
    }
    if line.expansion:
        plain["paper"]["speed"] = line.speed
    if measured:
        batch, *sides = line.row.trial
        plain["measured"] = measured.plain() | {"batch": [batch, 3, *sides]}
    return plain
