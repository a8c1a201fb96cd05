"""The plan: which layer becomes which chain, as data that is printed before anything is built."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Unpack

from torch import nn

from expand.chains import Factor, Geometry, Strategy, chain, no_identity, obstacle
from expand.costs import Calls, Cost, calls, layer_cost
from expand.layers import Site, count, geometry, linear_layers, shared_weights, unfit
from expand.running import is_chainable
from expand.selection import check_patterns, matches, patterns, unselected
from expand.settings import Conv, Options, Settings, complete, layer_settings
from expand.table import table

__all__ = ["LayerPlan", "Plan", "plan"]


@dataclass(frozen=True)
class LayerPlan:
    """One row: a layer, and its factors or the `reason` why it is left alone.

    `identity` says if its input is added, or why not: "yes", "" if it is not asked for. `cost` is
    known where the plan was told an `input_shape` and the network calls the layer.
    """

    path: str
    layer: str
    strategy: Strategy | None = None
    factors: tuple[Factor, ...] = ()
    stride_at: int = 0
    parameters_before: int = 0
    parameters_after: int = 0
    cost: Cost | None = None
    reason: str = ""
    identity: str = ""

    @property
    def cheapest(self) -> Literal["folded", "unfolded"]:
        """The mode with fewer multiply-adds; folded where they are not known."""
        if self.cost is None or self.cost.unfolded is None:
            return "folded"
        return "unfolded" if self.cost.unfolded < self.cost.folded else "folded"


@dataclass(frozen=True)
class Plan:
    """Every linear layer of a network, expanded or left alone. `str(plan)` is a table.

    `other_parameters` counts those of all other layers, so that the totals are the network's.
    `batch` is that of the `input_shape` that costs were counted for, 0 without one.
    """

    rows: tuple[LayerPlan, ...]
    other_parameters: int = 0
    batch: int = 0

    def __iter__(self) -> Iterator[LayerPlan]:
        return iter(self.rows)

    @property
    def expanded(self) -> tuple[LayerPlan, ...]:
        """The rows that become chains."""
        return tuple(row for row in self.rows if row.strategy)

    @property
    def parameters(self) -> tuple[int, int]:
        """The network's parameters: compact, expanded."""
        before = sum(row.parameters_before for row in self.rows)
        after = sum(row.parameters_after for row in self.rows)
        return before + self.other_parameters, after + self.other_parameters

    @property
    def cost(self) -> Cost:
        """The linear layers' multiply-adds a sample, summed."""
        return sum((row.cost for row in self.rows if row.cost), start=Cost(0, 0, 0))

    def __str__(self) -> str:
        costs = ("multiply-adds", "unfolded", "folded", "auto") if self.batch else ()
        lines = [("path", "layer", "strategy", "factors", "parameters", "expanded", *costs)]
        lines += [_line(row, costs=bool(costs)) for row in self.rows]
        blank = ("",) * len(costs)
        other = f"{self.other_parameters:,}"
        lines.append(("(other layers)", "", "-", "", other, other, *blank))
        totals = f"{self.parameters[0]:,}", f"{self.parameters[1]:,}"
        summed = (*_figures(self.cost), "") if costs else ()
        lines.append(("total", "", "", "", *totals, *summed))
        text = table(lines, right=range(4, 9))
        if costs:
            text += f"\nmultiply-adds of a forward pass, a sample; folding shared by {self.batch}"
        return text


def plan(model: nn.Module, conv: Conv | None = "auto", **options: Unpack[Options]) -> Plan:
    """Plan the expansion of `model`; nothing is built, `model` is left alone.

    conv: the strategy for convolutions: cl, ck, none, or auto, which is CK where a kernel is
    above 3 and CL elsewhere; those of kernel 1 are kept by default. `options`: see
    `expand.Options`.

    Raises ValueError for unknown values, which it names with the override's pattern, for a
    pattern that no linear layer matches, and for inner widths that do not fit a layer.
    """
    default, chosen = complete(conv, options)
    select, exclude = patterns(chosen["select"]), patterns(chosen["exclude"])
    overrides, shape = chosen["overrides"] or {}, chosen["input_shape"]
    sites = linear_layers(model)
    check_patterns([*(select or ()), *(exclude or ()), *overrides], sites)
    shared = shared_weights(model)
    reasons = {site.path: unfit(site.layer, shared) for site in sites}
    known = [path for path, reason in reasons.items() if not reason]
    seen = calls(model, known, shape) if shape and known else {}
    rows = []
    for site in sites:
        changes = [change for pattern, change in overrides.items() if matches(site, [pattern])]
        keep_input = site.is_stem and chosen["stem"] == "keep"
        named = not site.path or not set(site.paths).isdisjoint(select or ())
        named = named and "pointwise" not in options
        base = replace(default, pointwise="expand") if named else default
        settings = layer_settings(base, changes, keep_input=keep_input)
        reason = unselected(site, select, exclude) or reasons[site.path]
        if not reason and site.is_classifier and chosen["classifier"] == "keep":
            reason = "the classifier is kept (classifier='expand' expands it)"
        rows.append(_row(site, settings, reason, seen.get(site.path, ()), shape))
    counted = {id(p) for site in sites for p in _own(site.layer)}
    other = count(p for p in model.parameters() if id(p) not in counted)
    return Plan(tuple(rows), other, shape[0] if shape else 0)


def _row(
    site: Site, settings: Settings, reason: str, calls: Calls, shape: Sequence[int] | None
) -> LayerPlan:
    layer, before = site.layer, count(_own(site.layer))
    name = type(layer).__name__
    strategy = None
    if not reason:
        strategy, reason = _strategy(geometry(layer), settings)
    factors: tuple[Factor, ...] = ()
    stride_at, after, identity = 0, before, ""
    if strategy:
        factors = _factors(site, strategy, settings)
        stride_at = 1 if strategy == "cl" and settings.stride == "middle" else len(factors) - 1
        replaced = count(p for p in (layer.weight, layer.bias) if isinstance(p, nn.Parameter))
        after = before - replaced + sum(factor.parameters for factor in factors)
        identity = (no_identity(geometry(layer)) or "yes") if settings.identity else ""
    chainable = is_chainable(type(layer))
    batch = shape[0] if shape else 1
    how = {"batch": batch, "chainable": chainable, "identity": identity == "yes"}
    cost = layer_cost(layer, factors, stride_at, calls, **how)
    built = strategy, factors, stride_at
    return LayerPlan(site.path, name, *built, before, after, cost, reason, identity)


def _factors(site: Site, strategy: Strategy, settings: Settings) -> tuple[Factor, ...]:
    try:
        return chain(
            geometry(site.layer),
            strategy,
            rate=settings.rate,
            keep_input=settings.keep_input,
            depthwise=settings.depthwise,
            biases=settings.biases,
            widths=settings.widths,
        )
    except ValueError as error:
        raise ValueError(f"{site.path or 'the layer'}: {error}") from error


def _strategy(geometry: Geometry, settings: Settings) -> tuple[Strategy | None, str]:
    """The strategy that the settings give a layer, or the reason why it is not expanded."""
    if not geometry.kernel:
        return ("fc", "") if settings.linear else (None, "linear: false")
    if settings.conv == "none":
        return None, "conv: none"
    if settings.pointwise == "keep" and max(geometry.kernel) == 1 and settings.conv != "ck":
        return None, "1x1 is kept (pointwise='expand' expands it)"
    if settings.conv == "auto":
        return ("cl", "") if obstacle(geometry, "ck") else ("ck", "")
    reason = obstacle(geometry, settings.conv)
    return (None, reason) if reason else (settings.conv, "")


def _own(layer: nn.Module) -> list[nn.Parameter]:
    """A layer's parameters, a unit's factors among them, but not other layers inside it."""
    inside = isinstance(layer, nn.MultiheadAttention)
    return list(layer.parameters(recurse=not inside))


def _line(row: LayerPlan, *, costs: bool) -> tuple[str, ...]:
    what = _arrows(row.factors) if row.strategy else row.reason
    if row.identity:
        what += " + identity" if row.identity == "yes" else f"; no identity: {row.identity}"
    counts = f"{row.parameters_before:,}", f"{row.parameters_after:,}"
    more = (*_figures(row.cost), row.cheapest if row.strategy else "-") if costs else ()
    return (row.path or "(the model)", row.layer, row.strategy or "-", what, *counts, *more)


def _figures(cost: Cost | None) -> tuple[str, str, str]:
    if cost is None:
        return "-", "-", "-"
    unfolded = "-" if cost.unfolded is None else f"{cost.unfolded:,.0f}"
    return f"{cost.compact:,.0f}", unfolded, f"{cost.folded:,.0f}"


def _arrows(factors: Sequence[Factor]) -> str:
    """`3-[1x1]-12-[3x3]-32-[1x1]-8`, with the groups where there are any."""
    text = str(factors[0].inputs)
    for factor in factors:
        kernel = "x".join(map(str, factor.kernel)) or "fc"
        groups = f"/{factor.groups}" if factor.groups > 1 else ""
        text += f" -[{kernel}{groups}]- {factor.outputs}"
    return text
