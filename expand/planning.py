"""The plan: which layer becomes which chain, as data that is printed before anything is built."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from torch import nn

from expand.chains import Depthwise, Factor, Geometry, Strategy, chain, obstacle
from expand.layers import count, ends, geometry, linear_layers, shared_weights, unfit
from expand.table import table

__all__ = ["LayerPlan", "Plan", "Settings", "plan"]

LARGEST_RATE = 1024
"""Far beyond any use, and below what would exhaust the memory instead of failing."""


@dataclass(frozen=True)
class Settings:
    """How one layer is expanded; `overrides` of a plan set these fields by path pattern.

    conv, linear: as in `plan`. rate: the expansion rate r, up to 1024. keep_input: the first
    inner width stays the layer's input width. stride: the factor of CL that carries the stride;
    CK has it on the last. depthwise: as in `expand.chains.chain`. ValueError for anything else.
    """

    conv: Literal["cl", "ck", "auto", "none"] = "auto"
    linear: bool = False
    rate: float = 4.0
    keep_input: bool = False
    stride: Literal["middle", "last"] = "middle"
    depthwise: Depthwise = "grouped"

    def __post_init__(self) -> None:
        _check("conv", self.conv, ("cl", "ck", "auto", "none"))
        _check("stride", self.stride, ("middle", "last"))
        _check("depthwise", self.depthwise, get_args(Depthwise))
        _check("linear", self.linear, (True, False))
        _check("keep_input", self.keep_input, (True, False))
        if not isinstance(self.rate, int | float) or isinstance(self.rate, bool):
            raise ValueError(f"rate: {self.rate!r} is not a number")
        if not 0 < self.rate <= LARGEST_RATE:
            raise ValueError(f"rate: {self.rate!r} must be above 0 and at most {LARGEST_RATE}")


@dataclass(frozen=True)
class LayerPlan:
    """One row: a layer, and its factors or the `reason` why it is left alone."""

    path: str
    layer: str
    strategy: Strategy | None = None
    factors: tuple[Factor, ...] = ()
    stride_at: int = 0
    parameters_before: int = 0
    parameters_after: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """Every linear layer of a network, expanded or left alone. `str(plan)` is a table.

    `other_parameters` counts those of all other layers, so that the totals are the network's.
    """

    rows: tuple[LayerPlan, ...]
    other_parameters: int = 0

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

    def __str__(self) -> str:
        lines = [("path", "layer", "strategy", "factors", "parameters", "expanded")]
        for row in self.rows:
            what = _arrows(row.factors) if row.strategy else row.reason
            counts = f"{row.parameters_before:,}", f"{row.parameters_after:,}"
            lines.append((row.path or "(the model)", row.layer, row.strategy or "-", what, *counts))
        other = f"{self.other_parameters:,}"
        lines.append(("(other layers)", "", "-", "", other, other))
        lines.append(("total", "", "", "", f"{self.parameters[0]:,}", f"{self.parameters[1]:,}"))
        return table(lines, right=(4, 5))


def plan(
    model: nn.Module,
    conv: Literal["cl", "ck", "auto", "none"] | None = "auto",
    *,
    linear: bool = False,
    rate: float = 4.0,
    select: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    stem: Literal["keep", "expand"] = "keep",
    classifier: Literal["keep", "expand"] = "keep",
    stride: Literal["middle", "last"] = "middle",
    depthwise: Depthwise = "grouped",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Plan the expansion of `model`; nothing is built, `model` is left alone.

    conv: the strategy for convolutions; auto is CK where a kernel is above 3 and CL elsewhere.
    linear: whether fully-connected layers are expanded (FC).
    rate: the expansion rate r.
    select, exclude: patterns of module paths (`layer1.*`), as of `fnmatch`.
    stem: `keep` leaves the first inner width of the first convolution at its input channels.
    classifier: `keep` leaves the last fully-connected layer alone. Both are the paper's way.
    stride: the factor of CL that carries the stride; the function is the same.
    depthwise: `channelwise` as in the paper's ShuffleNetV2.
    overrides: `Settings` fields by path pattern; later patterns win.

    Raises ValueError for unknown values, which it names with the override's pattern, and for a
    pattern that no linear layer matches.
    """
    default = Settings(conv or "none", linear, rate, False, stride, depthwise)
    _check("stem", stem, ("keep", "expand"))
    _check("classifier", classifier, ("keep", "expand"))
    select, exclude, overrides = _patterns(select), _patterns(exclude), overrides or {}
    layers = linear_layers(model)
    _check_patterns([*(select or ()), *(exclude or ()), *overrides], layers)
    _check_overrides(default, overrides)
    first, last = ends(layers) if "" not in layers else (None, None)
    shared = shared_weights(model)
    rows = []
    for path, layer in layers.items():
        settings = _settings(default, overrides, path, keep_input=path == first and stem == "keep")
        reason = _unselected(path, select, exclude) or unfit(layer, shared)
        if not reason and path == last and classifier == "keep":
            reason = "the classifier is kept (classifier='expand' expands it)"
        rows.append(_row(path, layer, settings, reason))
    counted = {id(p) for layer in layers.values() for p in layer.parameters()}
    other = count(p for p in model.parameters() if id(p) not in counted)
    return Plan(tuple(rows), other)


def _row(path: str, layer: nn.Module, settings: Settings, reason: str) -> LayerPlan:
    before = count(layer.parameters())
    name = type(layer).__name__
    shape = geometry(layer)
    strategy = None
    if not reason:
        strategy, reason = _strategy(shape, settings)
    if strategy is None:
        return LayerPlan(path, name, None, (), 0, before, before, reason)
    factors = chain(
        shape,
        strategy,
        rate=settings.rate,
        keep_input=settings.keep_input,
        depthwise=settings.depthwise,
    )
    stride_at = 1 if strategy == "cl" and settings.stride == "middle" else len(factors) - 1
    bias = layer.bias is not None
    replaced = count(p for p in (layer.weight, layer.bias) if isinstance(p, nn.Parameter))
    after = before - replaced + sum(factor.parameters(bias) for factor in factors)
    return LayerPlan(path, name, strategy, factors, stride_at, before, after)


def _strategy(geometry: Geometry, settings: Settings) -> tuple[Strategy | None, str]:
    """The strategy that the settings give a layer, or the reason why there is none."""
    if not geometry.kernel:
        return ("fc", "") if settings.linear else (None, "linear: false")
    if settings.conv == "none":
        return None, "conv: none"
    if settings.conv == "auto":
        return ("cl", "") if obstacle(geometry, "ck") else ("ck", "")
    reason = obstacle(geometry, settings.conv)
    return (None, reason) if reason else (settings.conv, "")


def _settings(
    default: Settings, overrides: Mapping[str, Mapping[str, Any]], path: str, *, keep_input: bool
) -> Settings:
    settings = replace(default, keep_input=keep_input)
    for pattern, changes in overrides.items():
        if fnmatchcase(path, pattern):
            settings = replace(settings, **changes)
    return settings


def _check_overrides(default: Settings, overrides: Mapping[str, Mapping[str, Any]]) -> None:
    known = [field.name for field in fields(Settings)]
    for pattern, changes in overrides.items():
        place = f"overrides[{pattern!r}]"
        if not isinstance(changes, Mapping):
            raise ValueError(f"{place}: {changes!r} is not a mapping of {', '.join(known)}")
        for name in changes:
            _check(place, name, known)
        try:
            replace(default, **changes)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


def _unselected(path: str, select: list[str] | None, exclude: list[str] | None) -> str:
    if _matches(path, exclude or ()):
        return "excluded"
    return "" if select is None or _matches(path, select) else "not selected"


def _patterns(patterns: str | Sequence[str] | None) -> list[str] | None:
    return [patterns] if isinstance(patterns, str) else list(patterns) if patterns else None


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _check_patterns(patterns: Iterable[str], layers: Mapping[str, nn.Module]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in layers):
            near = get_close_matches(pattern, layers, n=3) or list(layers)[:8]
            raise ValueError(
                f"{pattern!r} matches no linear layer. "
                f"Known: {', '.join(near) if near else 'none, the network has no linear layer'}"
            )


def _check(name: str, value: object, known: Sequence[object]) -> None:
    if not any(type(value) is type(each) and value == each for each in known):
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(map(str, known))}")


def _arrows(factors: Sequence[Factor]) -> str:
    """`3-[1x1]-12-[3x3]-32-[1x1]-8`, with the groups where there are any."""
    text = str(factors[0].inputs)
    for factor in factors:
        kernel = "x".join(map(str, factor.kernel)) or "fc"
        groups = f"/{factor.groups}" if factor.groups > 1 else ""
        text += f" -[{kernel}{groups}]- {factor.outputs}"
    return text
