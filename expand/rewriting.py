"""What all transforms share: which layers they rewrite, the plan, the copy, and the way back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar, Literal, TypedDict, Unpack, cast

from torch import Tensor, nn

from expand.copying import copied
from expand.costs import Calls, Cost, Uncountable, calls, kept_bytes, multiply_adds
from expand.factors import Factors
from expand.initialise import INITS, Init
from expand.layers import Site, count, linear_layers, shared_weights, unfit
from expand.leaves import Leaves
from expand.making import become_unit, compress
from expand.network import Hold, products, units
from expand.planning import LayerPlan, Plan
from expand.running import CONVOLUTIONS
from expand.selection import check_patterns, matches, patterns, unselected
from expand.settings import check
from expand.units import ExpandedUnit, Mode

__all__ = ["Branched", "Choice", "Folded", "Rewriting"]


class Choice(TypedDict, total=False):
    """Which layers: patterns as of `expand.Options`, and the shape of the batches."""

    select: str | Sequence[str] | None
    exclude: str | Sequence[str] | None
    input_shape: Sequence[int] | None


class Rewriting(ABC):
    """A student transform that makes layers units, which are computed from factors; abstract.

    `inits` are the values that `init` may have.
    """

    inits: ClassVar[tuple[str, ...]]
    done: ClassVar[str] = "rewritten"
    phases: ClassVar[tuple[str, ...]] = ()
    inside: ClassVar[bool] = False  # whether `select` may name layers in branches of other units
    mode: Mode | Literal["auto"] = "folded"
    modes: dict[str, Mode] | None = None  # of the units by path, once they are made

    def __init__(self, *, init: Init = "default", **choice: Unpack[Choice]) -> None:
        check("init", init, self.inits)
        self.init: Init = init
        self.select = patterns(choice.get("select"))
        self.exclude = patterns(choice.get("exclude"))
        self.input_shape = choice.get("input_shape")

    @abstractmethod
    def _row(self, site: Site) -> LayerPlan:
        """Say what a layer, which could be a unit, becomes, or why it stays as it is."""

    @abstractmethod
    def _factors(self, layer: nn.Module, row: LayerPlan, init: Init) -> Factors:
        """Return new factors for a layer, with their first values."""

    def plan(self, student: nn.Module) -> Plan:
        """Return what `apply` would do, printable."""
        return self._plan(student, self.input_shape)

    def apply(self, student: nn.Module) -> nn.Module:
        """Return a rewritten copy of the student; ValueError if nothing matches."""
        planned = self._plan(student, self.input_shape if self.mode == "auto" else None)
        name = type(student).__name__
        if not planned.rows:
            raise ValueError(f"{name} has no linear layer to expand")
        if not planned.expanded:
            raise ValueError(f"no layer of {name} is {self.done}:\n{planned}")
        rewritten, self.modes = copied(student), {}
        for row in planned.expanded:
            mode = self.modes[row.path] = row.auto if self.mode == "auto" else self.mode
            self._rewrite(rewritten.get_submodule(row.path), row, self.init).mode = mode
        return rewritten

    def restore(self, student: nn.Module) -> nn.Module:
        """Return the compact network; ValueError in a nonlinear phase."""
        return compress(student, self.modes)

    def enter(self, student: nn.Module, phase: str) -> None:
        """Raise ValueError: the transform has no phases."""
        raise ValueError(f"phase: {type(self).__name__} has no phase {phase!r}, nor any other")

    def _patterns(self) -> Iterable[str]:
        return [*(self.select or ()), *(self.exclude or ())]

    def _rewrite(self, layer: nn.Module, row: LayerPlan, init: Init) -> ExpandedUnit:
        """Turn a layer into a unit, in place."""
        try:
            factors = self._factors(layer, row, init).train(layer.training)
        except ValueError as error:
            raise ValueError(f"{row.path or 'the layer'}: {error}") from error
        return become_unit(layer, factors)

    def _plan(self, student: nn.Module, shape: Sequence[int] | None) -> Plan:
        inside = tuple(f"{path}.factors." if path else "factors." for path, _ in units(student))
        named = [p for p in self.select or () if self.inside and ".factors." in f".{p}"]
        sites = [
            each
            for each in linear_layers(student)
            if not each.path.startswith(inside) or matches(each, named)
        ]
        check_patterns(self._patterns(), sites)
        shared = shared_weights(student)
        unfits = {site.path: unfit(site.layer, shared) for site in sites}
        known = [path for path, reason in unfits.items() if not reason]
        seen = calls(student, known, shape) if shape and known else {}
        batch, rows = shape[0] if shape else 0, []
        for site in sites:
            reason = unselected(site, self.select, self.exclude) or unfits[site.path]
            left = LayerPlan(site.path, type(site.layer).__name__, reason=reason)
            row = left if reason else self._row(site)
            rows.append(self._counted(site.layer, row, seen.get(site.path, ()), batch))
        counted = {id(p) for site in sites for p in _own(site.layer)}
        other = count(p for p in student.parameters() if id(p) not in counted)
        return Plan(tuple(rows), other, batch, count(student.parameters()))

    def _counted(self, layer: nn.Module, row: LayerPlan, seen: Calls, batch: int) -> LayerPlan:
        """Return the row with what the layer and the unit have and cost."""
        before = after = count(_own(layer))
        if seen or row.strategy:  # where no memory is taken and no random numbers are drawn
            layer = copied(layer).to("meta")
        if row.strategy:
            after = count(_own(self._rewrite(copied(layer), row, "default")))
        row = replace(row, parameters_before=before, parameters_after=after)
        return self._measured(layer, row, seen, batch) if seen else row

    def _measured(self, layer: nn.Module, row: LayerPlan, seen: Calls, batch: int) -> LayerPlan:
        """Return the row with its cost, and with what it keeps; None where that is uncountable."""
        if not row.strategy:
            with suppress(Uncountable):
                compact = multiply_adds(layer, seen, batch)
                row = replace(row, cost=Cost(compact, compact, compact))
            return row
        light = replace(row, factors=tuple(replace(each, bias=False) for each in row.factors))
        unit = self._rewrite(copied(layer), light, "default")
        with suppress(Uncountable):
            row = replace(row, cost=_cost(layer, unit, seen, batch))
        unit.mode = row.auto
        with suppress(Uncountable):
            kept = kept_bytes(unit, seen, batch) - kept_bytes(layer, seen, batch)
            row = replace(row, kept=kept)
        return row


class Branched(Rewriting):
    """A student transform that makes each convolution a sum of branches; abstract."""

    @abstractmethod
    def _parts(self, conv: nn.Conv2d) -> tuple[tuple[str, ...], str]:
        """Return the names of what a convolution becomes, and of what it cannot have."""

    def _obstacle(self, conv: nn.Conv2d) -> str:
        """Say why a convolution, which could be a unit, stays as it is; empty where it does not."""
        # with a single tap, parts would be copies of it
        return "its kernel is 1" if max(conv.kernel_size) == 1 else ""

    def _row(self, site: Site) -> LayerPlan:
        conv, row = cast("nn.Conv2d", site.layer), LayerPlan(site.path, type(site.layer).__name__)
        known = isinstance(conv, CONVOLUTIONS)
        if reason := self._obstacle(conv) if known else "not a convolution":
            return replace(row, reason=reason)
        branches, without = self._parts(conv)
        return replace(row, strategy=type(self).__name__, branches=branches, without=without)


class Folded(Rewriting):
    """A student transform whose units run on the product or sum of their factors; abstract."""

    inits = INITS

    def hold(self, student: nn.Module) -> Hold:
        """Return a context in which the units' weights are made once: see `expand.Hold`."""
        return Hold(student, self.modes)

    def leaves(self, student: nn.Module) -> Leaves:
        """Return the compact weights and biases of the units as leaves: see `expand.Leaves`."""
        return Leaves(student, self.modes)

    def products(self, student: nn.Module) -> dict[str, Tensor]:
        """Return the compact weights and biases of the units by name, differentiably."""
        return products(student, self.modes or ())


def _cost(layer: nn.Module, unit: ExpandedUnit, seen: Calls, batch: int) -> Cost:
    linear = unit.factors.linear
    ways: dict[Mode, bool] = {"unfolded": unit.is_chain or not linear, "folded": linear}
    costs: list[float | None] = []
    for unit.mode, possible in ways.items():
        costs.append(multiply_adds(unit, seen, batch) if possible else None)
    return Cost(multiply_adds(layer, seen, batch), *costs)


def _own(layer: nn.Module) -> list[nn.Parameter]:
    """A layer's parameters, a unit's factors among them, but not other layers inside it."""
    inside = isinstance(layer, nn.MultiheadAttention)
    return list(layer.parameters(recurse=not inside))
