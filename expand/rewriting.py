"""What transforms share that rewrite convolutions one by one: selection, the plan, the copy."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypedDict, Unpack, cast

from torch import Tensor, nn

from expand.copying import copied
from expand.costs import Calls, calls, training_cost
from expand.initialise import INITS, Init
from expand.layers import Site, count, linear_layers, shared_weights, unfit
from expand.making import become_unit
from expand.network import Hold, products, units
from expand.running import CONVOLUTIONS
from expand.selection import check_patterns, patterns, unselected
from expand.settings import check
from expand.table import table
from expand.transform import compress
from expand.units import Factors

__all__ = ["BlockPlan", "BlockRow", "Choice", "Folded", "Rewriting"]


@dataclass(frozen=True)
class BlockRow:
    """A layer and its branches, or the `reason` why it stays as it is; `without` of a branch.

    `parameters` and `cost` are before and after: numbers, multiply-adds of a forward pass a sample
    (None if unknown), folding shared by the batch. `kept` are the bytes a sample that the backward
    pass keeps, beyond those of the layer.
    """

    path: str
    layer: str
    branches: tuple[str, ...] = ()
    without: str = ""
    reason: str = ""
    parameters: tuple[int, int] = (0, 0)
    cost: tuple[float, float] | None = None
    kept: float = 0


@dataclass(frozen=True)
class BlockPlan:
    """What a transform does to each linear layer. `str(plan)` is a table."""

    rows: tuple[BlockRow, ...]

    def __str__(self) -> str:
        head = ("path", "layer", "branches", "parameters", "in training")
        costs = any(row.cost for row in self.rows)
        head += ("multiply-adds", "in training", "kept") if costs else ()
        text = table([head, *(self._line(row)[: len(head)] for row in self.rows)], range(3, 8))
        note = "\nmultiply-adds of a forward pass, and bytes more kept for the backward, a sample"
        return text + note if costs else text

    def _line(self, row: BlockRow) -> tuple[str, ...]:
        made = " + ".join(row.branches) or f"- ({row.reason})"
        without = f" (no {row.without})" if row.without else ""
        costs = (*row.cost, row.kept) if row.cost else ()
        figures = [f"{n:,.0f}" for n in (*row.parameters, *costs)] + [""] * (3 - len(costs))
        return row.path or "(the model)", row.layer, made + without, *figures


class Choice(TypedDict, total=False):
    """Which convolutions: patterns as of `expand.Options`, and the shape of the batches."""

    select: str | Sequence[str] | None
    exclude: str | Sequence[str] | None
    input_shape: Sequence[int] | None


class Rewriting(ABC):
    """A student transform that makes each convolution a sum of branches; abstract.

    `inits` are the values that `init` may have.
    """

    inits: ClassVar[tuple[str, ...]]
    paths: frozenset[str] | None = None  # of the units, once they are made

    def __init__(self, *, init: Init = "default", **choice: Unpack[Choice]) -> None:
        check("init", init, self.inits)
        self.init: Init = init
        self.select = patterns(choice.get("select"))
        self.exclude = patterns(choice.get("exclude"))
        self.input_shape = choice.get("input_shape")

    @abstractmethod
    def _obstacle(self, conv: nn.Conv2d) -> str:
        """Say why a convolution, which could be a unit, stays as it is; empty where it does not."""

    @abstractmethod
    def _parts(self, conv: nn.Conv2d) -> tuple[tuple[str, ...], str]:
        """Return the names of what a convolution becomes, and of what it cannot have."""

    @abstractmethod
    def _factors(self, conv: nn.Conv2d, init: Init) -> Factors:
        """Return new factors for a convolution, with their first values."""

    def _rewrite(self, conv: nn.Conv2d, init: Init) -> None:
        """Turn a convolution into a unit, in place."""
        factors = self._factors(conv, init).train(conv.training)
        if factors.bias is not None:
            factors.bias.requires_grad_(cast("nn.Parameter", conv.bias).requires_grad)
        become_unit(conv, factors)

    def plan(self, student: nn.Module) -> BlockPlan:
        """Return what `apply` would do, printable."""
        sites, reasons = self._sites(student)
        known = [site.path for site in sites if not reasons[site.path]]
        shape = self.input_shape
        seen = calls(student, known, shape) if shape and known else {}
        rows = (self._row(site, reasons[site.path], seen.get(site.path, ())) for site in sites)
        return BlockPlan(tuple(rows))

    def apply(self, student: nn.Module) -> nn.Module:
        """Return a copy of the student with branches; ValueError if no layer can have any."""
        rewritten = copied(student)
        sites, reasons = self._sites(rewritten)
        chosen = [site for site in sites if not reasons[site.path]]
        if not chosen:
            name = type(student).__name__
            raise ValueError(f"no layer of {name} is rewritten:\n{self.plan(student)}")
        for site in chosen:
            self._rewrite(cast("nn.Conv2d", site.layer), self.init)
        self.paths = frozenset(site.path for site in chosen)
        return rewritten

    def restore(self, student: nn.Module) -> nn.Module:
        """Return the network with one convolution for each that was rewritten."""
        return compress(student, self.paths)

    def enter(self, student: nn.Module, phase: str) -> None:
        """Raise ValueError: the transform has no phases."""
        raise ValueError(f"phase: {type(self).__name__} has no phase {phase!r}, nor any other")

    def _sites(self, student: nn.Module) -> tuple[list[Site], dict[str, str]]:
        """Return the linear layers, and by path why each stays as it is, empty if it does not."""
        inside = tuple(f"{path}.factors." if path else "factors." for path, _ in units(student))
        sites = [site for site in linear_layers(student) if not site.path.startswith(inside)]
        check_patterns([*(self.select or ()), *(self.exclude or ())], sites)
        shared = shared_weights(student)
        return sites, {site.path: self._reason(site, shared) for site in sites}

    def _reason(self, site: Site, shared: set[int]) -> str:
        other = "" if isinstance(site.layer, CONVOLUTIONS) else "not a convolution"
        known = unselected(site, self.select, self.exclude) or unfit(site.layer, shared) or other
        return known or self._obstacle(cast("nn.Conv2d", site.layer))

    def _row(self, site: Site, reason: str, seen: Calls) -> BlockRow:
        layer = copied(site.layer).to("meta")  # which takes no memory and draws no random numbers
        before, kind = count(layer.parameters()), type(layer).__name__
        if reason:
            return BlockRow(site.path, kind, reason=reason, parameters=(before, before))
        rewritten = copied(cast("nn.Conv2d", layer))
        self._rewrite(rewritten, "default")
        names, without = self._parts(cast("nn.Conv2d", layer))
        counts, cost, kept = (before, count(rewritten.parameters())), None, 0.0
        if seen and self.input_shape:
            batch = self.input_shape[0]
            first, less = training_cost(layer, seen, batch)
            last, more = training_cost(rewritten, seen, batch)
            cost, kept = (first, last), more - less
        return BlockRow(site.path, kind, names, without, "", counts, cost, kept)


class Folded(Rewriting):
    """A student transform whose units run on the sum, as ExpandNets do; abstract."""

    inits = INITS

    def _obstacle(self, conv: nn.Conv2d) -> str:
        # with a single tap, parts would be copies of it
        return "its kernel is 1" if max(conv.kernel_size) == 1 else ""

    def hold(self, student: nn.Module) -> Hold:
        """Return a context in which the units' weights are computed once: see `expand.Hold`."""
        return Hold(student, self.paths)

    def products(self, student: nn.Module) -> dict[str, Tensor]:
        """Return the compact weights and biases of the units by name, differentiably."""
        return products(student, self.paths)
