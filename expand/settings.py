"""What may be asked of an expansion: the options, their defaults, and one layer's settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict, cast, get_args, get_origin, get_type_hints

from expand.presets import PRESETS

__all__ = ["DEFAULTS", "Conv", "Options", "Settings", "check", "complete"]

Conv = Literal["cl", "ck", "auto", "none"]
Depthwise = Literal["grouped", "channelwise"]
Biases = Literal["all", "last"]

LARGEST_RATE, LARGEST_WIDTH = 64, 2**20
"""Far beyond any use, and below what would take hours or all memory instead of failing."""


class Options(TypedDict, total=False):
    """The options of a plan, beside `conv`.

    preset: one of the paper's plans by name (`expand.PRESETS`); what stands beside it is added,
    and wins. `conv: auto` leaves the preset's strategy.
    linear: whether fully-connected layers are expanded (FC). Default false.
    rate: the expansion rate r, above 0 and at most 64. Default 4.
    select, exclude: patterns of module paths (`layer1.*`), as of `fnmatch`, or kinds of layers:
    `@stem` (the first convolution), `@depthwise`, `@strided`. Default: all, none. An empty list of
    `select` is refused.
    pointwise: `keep` (default) leaves convolutions of kernel 1 alone, as the paper does; `expand`
    expands them, too. Those that `select` names by their path, or an override with a `conv`, are
    expanded, as in the presets.
    stem: `keep` leaves the first inner width of the first convolution at its input channels.
    classifier: `keep` leaves the last fully-connected layer alone. Both are the paper's way.
    stride: the factor of CL that carries the stride, `middle` (default) or `last`; the function
    is the same.
    biases: where the layer has one, `all` (default, as in the paper) factors have one or the
    `last` alone.
    depthwise: `grouped` (default), or `channelwise` as in the paper's ShuffleNetV2.
    identity: whether a chain's input is added to its output, where the layer has as many outputs
    as inputs (SESR: Bhardwaj et al., MLSys 2022, equation 1). Default false.
    overrides: `Settings` fields by pattern; later patterns win.
    input_shape: of the batches to come, (B, channels, *size): the plan then counts costs.
    """

    preset: str | None
    linear: bool
    rate: float
    select: str | Sequence[str] | None
    exclude: str | Sequence[str] | None
    pointwise: Literal["keep", "expand"]
    stem: Literal["keep", "expand"]
    classifier: Literal["keep", "expand"]
    stride: Literal["middle", "last"]
    biases: Biases
    depthwise: Depthwise
    identity: bool
    overrides: Mapping[str, Mapping[str, Any]] | None
    input_shape: Sequence[int] | None


@dataclass(frozen=True)
class Settings:
    """How one layer is expanded; `overrides` of a plan set these fields by path pattern.

    conv, linear, rate, pointwise, stride, biases, depthwise, identity: as in `Options`. keep_input:
    the first inner width stays the layer's input width. widths: the inner widths, first to last,
    instead of those of the rate; multiples of the layer's groups. ValueError for anything else.
    """

    conv: Conv = "auto"
    linear: bool = False
    rate: float = 4.0
    pointwise: Literal["keep", "expand"] = "keep"
    keep_input: bool = False
    stride: Literal["middle", "last"] = "middle"
    biases: Biases = "all"
    depthwise: Depthwise = "grouped"
    identity: bool = False
    widths: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type is bool or get_origin(field.type) is Literal:
                known = get_args(field.type) or (True, False)
                check(field.name, getattr(self, field.name), known)
        if not isinstance(self.rate, int | float) or isinstance(self.rate, bool):
            raise ValueError(f"rate: {self.rate!r} is not a number")
        if not 0 < self.rate <= LARGEST_RATE:
            raise ValueError(f"rate: {self.rate!r} must be above 0 and at most {LARGEST_RATE}")
        if self.widths is not None and not _are_counts(self.widths):
            raise ValueError(f"widths: {self.widths!r} is not a list of channel counts")


_OTHERS = {"stem": "keep", "classifier": "keep"}
DEFAULTS = cast(
    "Options",
    {name: getattr(Settings, name, _OTHERS.get(name)) for name in get_type_hints(Options)},
)


def complete(conv: Conv | None, options: Options) -> tuple[Settings, dict[str, Any]]:
    """Return the settings of a layer without overrides, and all options, defaults filled in.

    Raises TypeError for an unknown option, ValueError for an unknown value, which it names with
    the override's pattern.
    """
    for name in options:
        if name not in DEFAULTS:
            raise TypeError(f"{name!r} is not an option. Known: {', '.join(DEFAULTS)}")
    whole: dict[str, Any] = dict(DEFAULTS)
    if preset := options.get("preset"):
        check("preset", preset, list(PRESETS))
        plan = {"pointwise": "expand", **PRESETS[preset]}
        own = plan.pop("conv")
        conv = own if conv == "auto" else conv
        whole.update(plan)
    whole.update(options)
    if whole["select"] is not None and not whole["select"]:
        raise ValueError("select: an empty list selects no layer: leave it out to select all")
    check("stem", whole["stem"], ("keep", "expand"))
    check("classifier", whole["classifier"], ("keep", "expand"))
    if whole["input_shape"] is not None and not _are_counts(whole["input_shape"]):
        raise ValueError(f"input_shape: {whole['input_shape']!r} is not (batch, channels, *size)")
    names = {field.name for field in fields(Settings)} & set(whole)
    settings = Settings(conv=conv or "none", **{name: whole[name] for name in names})
    _check_overrides(settings, whole["overrides"] or {})
    return settings, whole


def check(name: str, value: object, known: Sequence[object]) -> None:
    """Raise ValueError that names what is `known`, where `value` is nothing of it."""
    if not any(type(value) is type(each) and value == each for each in known):
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(map(str, known))}")


def _check_overrides(default: Settings, overrides: Mapping[str, Mapping[str, Any]]) -> None:
    known = [field.name for field in fields(Settings)]
    for pattern, changes in overrides.items():
        place = f"overrides[{pattern!r}]"
        if not isinstance(changes, Mapping):
            raise ValueError(f"{place}: {changes!r} is not a mapping of {', '.join(known)}")
        for name in changes:
            check(place, name, known)
        try:
            replace(default, **changes)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


def _are_counts(widths: object) -> bool:
    counts = isinstance(widths, list | tuple)
    return counts and all(type(w) is int and 0 < w <= LARGEST_WIDTH for w in widths)
