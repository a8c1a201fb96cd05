"""Expand a network: the functions, and the class that recipes name."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Unpack

from torch import nn

from expand.chains import Geometry, Strategy, chain, no_identity, obstacle
from expand.factors import Factors
from expand.initialise import Init
from expand.layers import Site, geometry
from expand.making import make_chain
from expand.network import set_mode
from expand.planning import LayerPlan, Plan
from expand.rewriting import Folded
from expand.selection import matches
from expand.settings import DEFAULTS, Conv, Options, Settings, check, complete
from expand.units import MODES, Mode

__all__ = ["ExpandNet", "expand", "plan"]


def plan(model: nn.Module, conv: Conv | None = "auto", **options: Unpack[Options]) -> Plan:
    """Plan the expansion of `model`; nothing is built, `model` is left alone.

    conv: the strategy for convolutions: cl, ck, none, or auto, which is CK where a kernel is
    above 3 and CL elsewhere; those of kernel 1 are kept by default. `options`: see
    `expand.Options`.

    Raises ValueError for unknown values, which it names with the override's pattern, for a
    pattern that no linear layer matches, and for inner widths that do not fit a layer.
    """
    return ExpandNet(conv, **options).plan(model)


def expand(
    model: nn.Module,
    conv: Conv | None = "auto",
    *,
    mode: Mode | Literal["auto"] = "folded",
    init: Init = "default",
    **options: Unpack[Options],
) -> nn.Module:
    """Return an expanded copy of `model`; `model` is not changed.

    `conv` and `options` are those of `expand.plan`. `mode` says how the units run; `auto` is
    each layer's cheapest, for batches of `input_shape`, which it needs. `expand.set_mode` changes
    it later. `init` gives the factors their first values: `default` is torch's for each factor,
    as in the paper, so that the expanded network is another function than `model`; `scaled` gives
    the folded weights the size of `model`'s; `preserve` keeps `model`'s function, to fine-tune a
    trained network (`expand.initialise`).

    Raises ValueError if no layer can be expanded, with the reason for each, and if `preserve`
    is impossible for a layer.
    """
    transform = ExpandNet(conv, init=init, **options)
    transform.mode = mode
    return transform.apply(model)


class ExpandNet(Folded):
    """Chains of linear layers, folded into one a step: little memory (Guo et al. 2020, ExpandNets).

    For `use: expand.ExpandNet` in a recipe. Arguments are those of `expand.expand`; kdx gives the
    `input_shape`. Phases: `nonlinear` trains the nonlinear counterpart, `linear` the ExpandNet,
    from the weights that it finds (ExpandNets paper, 2.1). Several may stand in a recipe, each for
    layers of its own.
    """

    DEFAULTS: ClassVar[Options] = DEFAULTS  # of the options, which the signature does not show
    done = "expanded"
    phases = ("nonlinear", "linear")
    inside = True

    def __init__(
        self,
        conv: Conv | None = "auto",
        *,
        mode: Literal["folded", "unfolded", "auto"] = "folded",
        init: Init = "default",
        **options: Unpack[Options],
    ) -> None:
        self.mode = mode
        self.settings, self.options = complete(conv, options)
        self.overrides: Mapping[str, Mapping[str, Any]] = self.options["overrides"] or {}
        self.expands_named_pointwise = "pointwise" not in options
        choice: dict[str, Any] = {
            name: self.options[name] for name in ("select", "exclude", "input_shape")
        }
        super().__init__(init=init, **choice)

    def apply(self, student: nn.Module) -> nn.Module:
        """Return an expanded copy of the student; ValueError if nothing matches."""
        check("mode", self.mode, [*MODES, "auto"])
        if self.mode == "auto" and not self.input_shape:
            raise ValueError(
                "mode: 'auto' needs input_shape, (batch, channels, *size), to count costs"
            )
        return super().apply(student)

    def enter(self, student: nn.Module, phase: str) -> None:
        """Run the units nonlinearly, or linearly in the transform's mode."""
        check("phase", phase, self.phases)
        for path, mode in (self.modes or {}).items():
            set_mode(student, "nonlinear" if phase == "nonlinear" else mode, [path])

    def _patterns(self) -> Iterable[str]:
        return [*super()._patterns(), *self.overrides]

    def _settings(self, site: Site) -> Settings:
        """The settings of a layer. A kernel of 1 that `select` or a `conv` names is expanded."""
        found = replace(self.settings, keep_input=site.is_stem and self.options["stem"] == "keep")
        named = not site.path or not set(site.paths).isdisjoint(self.select or ())
        if named and self.expands_named_pointwise:
            found = replace(found, pointwise="expand")
        for pattern, changes in self.overrides.items():
            if matches(site, [pattern]):
                own = {"pointwise": "expand"} if "conv" in changes else {}
                found = replace(found, **own | dict(changes))
        return found

    def _row(self, site: Site) -> LayerPlan:
        shape, row = geometry(site.layer), LayerPlan(site.path, type(site.layer).__name__)
        settings = self._settings(site)
        if site.is_classifier and self.options["classifier"] == "keep":
            reason = "the classifier is kept (classifier='expand' expands it)"
            return replace(row, reason=reason)
        strategy, reason = _strategy(shape, settings)
        if not strategy:
            return replace(row, reason=reason)
        try:
            factors = chain(shape, strategy, settings)
        except ValueError as error:
            raise ValueError(f"{site.path or 'the layer'}: {error}") from error
        middle = strategy == "cl" and settings.stride == "middle"
        return replace(
            row,
            strategy=strategy,
            factors=factors,
            stride_at=1 if middle else len(factors) - 1,
            identity=(no_identity(shape) or "yes") if settings.identity else "",
        )

    def _factors(self, layer: nn.Module, row: LayerPlan, init: Init) -> Factors:
        identity = row.identity == "yes"
        return make_chain(layer, row.factors, stride_at=row.stride_at, init=init, identity=identity)


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
