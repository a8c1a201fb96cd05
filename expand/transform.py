"""Expand a network, and compress it back: the functions, and the class that recipes name."""

from collections.abc import Collection
from typing import ClassVar, Literal, Unpack

from torch import Tensor, nn

from expand.copying import copied
from expand.initialise import INITS, Init
from expand.making import compress_unit, expand_layer
from expand.network import Hold, products, set_mode, units
from expand.planning import LayerPlan, Plan, plan
from expand.settings import DEFAULTS, Conv, Options, check
from expand.units import MODES, Mode

__all__ = ["ExpandNet", "compress", "expand"]


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
    check("mode", mode, [*MODES, "auto"])
    check("init", init, INITS)
    if mode == "auto" and not options.get("input_shape"):
        raise ValueError("mode: 'auto' needs input_shape, (batch, channels, *size), to count costs")
    planned = plan(model, conv, **options)
    if not planned.expanded:
        raise ValueError(_nothing(model, planned))
    expanded = copied(model)
    for row in planned.expanded:
        _expand(expanded.get_submodule(row.path), row, mode, init)
    return expanded


def _expand(layer: nn.Module, row: LayerPlan, mode: Mode | Literal["auto"], init: Init) -> None:
    how = row.cheapest if mode == "auto" else mode
    try:
        more = {"init": init, "identity": row.identity == "yes"}
        expand_layer(layer, row.factors, stride_at=row.stride_at, mode=how, **more)
    except ValueError as error:
        raise ValueError(f"{row.path or 'the layer'}: {error}") from error


def compress(module: nn.Module, paths: Collection[str] | None = None) -> nn.Module:
    """Return the compact network: the original classes and state-dict keys, the same function.

    The factors are multiplied in float64. `module` is not changed; with `paths`, units elsewhere
    stay expanded. Raises ValueError if nothing is expanded, and for units in nonlinear mode, which
    have no compact equivalent.
    """
    compact = copied(module)
    expanded = [unit for path, unit in units(compact) if paths is None or path in paths]
    if not expanded:
        raise ValueError(f"{type(module).__name__} has no expanded layer to compress")
    for unit in expanded:
        compress_unit(unit)
    return compact


class ExpandNet:
    """Chains of linear layers, folded into one a step: little memory (Guo et al. 2020, ExpandNets).

    For `use: expand.ExpandNet` in a recipe. Arguments are those of `expand.expand`; kdx gives the
    `input_shape`. Phases: `nonlinear` trains the nonlinear counterpart, `linear` the ExpandNet,
    from the weights that it finds (ExpandNets paper, 2.1). Several may stand in a recipe, each for
    layers of its own.
    """

    DEFAULTS: ClassVar[Options] = DEFAULTS  # of the options, which the signature does not show

    def __init__(
        self,
        conv: Conv | None = "auto",
        *,
        mode: Literal["folded", "unfolded", "auto"] = "folded",
        init: Init = "default",
        **options: Unpack[Options],
    ) -> None:
        self.conv: Conv | None = conv
        self.mode: Literal["folded", "unfolded", "auto"] = mode
        self.init: Init = init
        self.options: Options = options
        self.modes: dict[str, Mode] | None = None

    def plan(self, student: nn.Module) -> Plan:
        """Return what `apply` would do, printable."""
        return plan(student, self.conv, **self.options)

    def apply(self, student: nn.Module) -> nn.Module:
        """Return an expanded copy of the student; ValueError if nothing matches."""
        expanded = expand(student, self.conv, mode=self.mode, init=self.init, **self.options)
        before = {path for path, _ in units(student)}
        self.modes = {path: unit.mode for path, unit in units(expanded) if path not in before}
        return expanded

    def enter(self, student: nn.Module, phase: str) -> None:
        """Run the units nonlinearly, or linearly in the transform's mode."""
        check("phase", phase, ("nonlinear", "linear"))
        for path, mode in (self.modes or {}).items():
            set_mode(student, "nonlinear" if phase == "nonlinear" else mode, [path])

    def hold(self, student: nn.Module) -> Hold:
        """Return a context in which the units' products are made once: see `expand.Hold`."""
        return Hold(student, self.modes)

    def products(self, student: nn.Module) -> dict[str, Tensor]:
        """Return the compact weights and biases of the units by name, differentiably."""
        return products(student, self.modes or ())

    def restore(self, student: nn.Module) -> nn.Module:
        """Return the compact network; ValueError in the nonlinear phase."""
        return compress(student, self.modes)


def _nothing(model: nn.Module, planned: Plan) -> str:
    if not planned.rows:
        return f"{type(model).__name__} has no linear layer to expand"
    return f"no layer of {type(model).__name__} is expanded:\n{planned}"
