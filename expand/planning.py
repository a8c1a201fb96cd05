"""The plan: what becomes of each layer, as data that is printed before anything is built."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from expand.chains import Geometry, by
from expand.costs import Cost
from expand.units import Mode

__all__ = ["LayerPlan", "Plan"]


@dataclass(frozen=True)
class LayerPlan:
    """One row: a layer, and its factors or branches, or the `reason` why it is left alone.

    `strategy`: the chain's, or the name of the transform. `stride_at`: the factor with the stride.
    `identity` says if the layer's input is added, or why not: "yes", "" if it is not asked for.
    `without`: a branch that is impossible, and why. `cost`, and the bytes a sample that the
    backward pass keeps in the cheapest mode beyond those of the layer, `kept`, are known where the
    plan was told an `input_shape`, the network calls the layer, and its forward runs on the meta
    device; else they are None.
    """

    path: str
    layer: str
    strategy: str | None = None
    factors: tuple[Geometry, ...] = ()
    stride_at: int = 0
    parameters_before: int = 0
    parameters_after: int = 0
    cost: Cost | None = None
    reason: str = ""
    identity: str = ""
    branches: tuple[str, ...] = ()
    without: str = ""
    kept: float | None = None

    @property
    def auto(self) -> Mode:
        """The mode that `mode: auto` takes: the cheapest, folded where costs are not known."""
        return self.cost.cheapest if self.cost else "folded"


@dataclass(frozen=True)
class Plan:
    """Every linear layer of a network, expanded or left alone. `str(plan)` is a table.

    `other_parameters` counts those of all other layers. `batch` is that of the `input_shape` that
    costs were counted for, 0 without one. `compact_parameters` are the network's, of which two rows
    may have the same: layers that share a weight, a layer and another in its branches.
    """

    rows: tuple[LayerPlan, ...]
    other_parameters: int = 0
    batch: int = 0
    compact_parameters: int = 0

    def __iter__(self) -> Iterator[LayerPlan]:
        return iter(self.rows)

    @property
    def expanded(self) -> tuple[LayerPlan, ...]:
        """The rows that are rewritten, as chains or branches."""
        return tuple(row for row in self.rows if row.strategy)

    @property
    def parameters(self) -> tuple[int, int]:
        """The network's parameters: compact, expanded."""
        more = sum(row.parameters_after - row.parameters_before for row in self.rows)
        return self.compact_parameters, self.compact_parameters + more

    @property
    def cost(self) -> Cost:
        """The linear layers' multiply-adds a sample, summed."""
        return sum((row.cost for row in self.rows if row.cost), start=Cost(0, 0, 0))

    def __str__(self) -> str:
        costs = ("multiply-adds", "unfolded", "folded", "kept", "auto") if self.batch else ()
        lines = [("path", "layer", "strategy", "factors", "parameters", "expanded", *costs)]
        lines += [_line(row, costs=bool(costs)) for row in self.rows]
        blank = ("",) * len(costs)
        other = f"{self.other_parameters:,}"
        lines.append(("(other layers)", "", "-", "", other, other, *blank))
        totals = f"{self.parameters[0]:,}", f"{self.parameters[1]:,}"
        summed = (*_figures(self.cost), f"{sum(row.kept or 0 for row in self):,.0f}", "")
        lines.append(("total", "", "", "", *totals, *summed[: len(costs)]))
        text = _table(lines, right=range(4, 10))
        note = "\nmultiply-adds of a forward pass, and bytes more kept for the backward, a sample"
        known = [row.cost and (row.kept is not None or not row.strategy) for row in self]
        left = len(known) - sum(map(bool, known))
        less = f"; without {left} layer{'s'[: left - 1]} that cannot be counted" if left else ""
        text += f"{note}; folding shared by {self.batch}{less}" if costs else ""
        narrow = [row.path for row in self.expanded if row.parameters_after < row.parameters_before]
        if narrow:
            remedy = "a larger rate, or stem: expand for a stem, gives it more"
            limit = "fewer numbers than the layer has, which limits its kernels"
            text += f"\n{limit}: {', '.join(narrow)} ({remedy})"
        return text


def _line(row: LayerPlan, *, costs: bool) -> tuple[str, ...]:
    what = row.reason or _arrows(row.factors) or " + ".join(row.branches)
    if row.identity:
        what += " + identity" if row.identity == "yes" else f"; no identity: {row.identity}"
    what += f" (no {row.without})" if row.without else ""
    counts = f"{row.parameters_before:,}", f"{row.parameters_after:,}"
    kept = "-" if row.kept is None else f"{row.kept:,.0f}"
    more = (*_figures(row.cost), kept, row.auto if row.factors else "-") if costs else ()
    return (row.path or "(the model)", row.layer, row.strategy or "-", what, *counts, *more)


def _figures(cost: Cost | None) -> list[str]:
    figures = (cost.compact, cost.unfolded, cost.folded) if cost else [None] * 3
    return ["-" if each is None else f"{each:,.0f}" for each in figures]


def _arrows(factors: Sequence[Geometry]) -> str:
    """`3-[1x1]-12-[3x3]-32-[1x1]-8`, with the groups where there are any."""
    text = str(factors[0].inputs) if factors else ""
    for factor in factors:
        groups = f"/{factor.groups}" if factor.groups > 1 else ""
        text += f" -[{by(factor.kernel) or 'fc'}{groups}]- {factor.outputs}"
    return text


def _table(lines: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """Align rows in columns, the first row as heading; columns in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([rows[0], "  ".join("-" * width for width in widths), *rows[1:]])
