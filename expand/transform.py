"""Expand a network, and compress it back: the functions, and the class that recipes name."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from expand.chains import Depthwise
from expand.initialise import INITS, Init
from expand.planning import Plan, plan
from expand.units import MODES, Mode, compress_unit, expand_layer, set_mode, units

__all__ = ["ExpandNet", "compress", "expand"]


def expand(
    model: nn.Module,
    conv: Literal["cl", "ck", "auto", "none"] | None = "auto",
    *,
    mode: Mode = "folded",
    init: Init = "default",
    **options: Any,
) -> nn.Module:
    """Return an expanded copy of `model`; `model` is left alone.

    `conv` and `options` (linear, rate, select, exclude, stem, classifier, stride, depthwise,
    overrides) are those of `expand.plan`. `mode` says how the units run: `expand.set_mode`
    changes it later. `init` gives the factors their first values: `default` is torch's for each
    factor, as in the paper, so that the expanded network is another function than `model`;
    `scaled` gives the folded weights the size of `model`'s; `preserve` keeps `model`'s function,
    to fine-tune a trained network (`expand.initialise`).

    Raises ValueError where no layer can be expanded, with the reason for each, and where a layer
    cannot be preserved.
    """
    _check("mode", mode, MODES)
    _check("init", init, INITS)
    planned = plan(model, conv, **options)
    if not planned.expanded:
        raise ValueError(_nothing(model, planned))
    expanded = copy.deepcopy(model)
    for row in planned.expanded:
        layer = expanded.get_submodule(row.path)
        try:
            expand_layer(layer, row.factors, stride_at=row.stride_at, mode=mode, init=init)
        except ValueError as error:
            raise ValueError(f"{row.path or 'the layer'}: {error}") from error
    return expanded


def compress(module: nn.Module, paths: Collection[str] | None = None) -> nn.Module:
    """Return the compact network: the original classes and state-dict keys, the same function.

    The factors are multiplied in float64. `module` is left alone; with `paths`, so are the units
    elsewhere. Raises ValueError where nothing is expanded, and for units in nonlinear mode, which
    have no compact equivalent.
    """
    compact = copy.deepcopy(module)
    expanded = [unit for path, unit in units(compact) if paths is None or path in paths]
    if not expanded:
        raise ValueError(f"{type(module).__name__} has no expanded layer to compress")
    for unit in expanded:
        compress_unit(unit)
    return compact


class ExpandNet:
    """ExpandNets as a student transform, for `use: expand.ExpandNet` in a recipe.

    Arguments are those of `expand.expand`. Phases: `nonlinear` trains the nonlinear counterpart,
    `linear` the ExpandNet, from the weights that it finds (ExpandNets paper, 2.1). Several may
    stand in a recipe, each for layers of its own.
    """

    def __init__(
        self,
        conv: Literal["cl", "ck", "auto", "none"] | None = "auto",
        *,
        linear: bool = False,
        rate: float = 4.0,
        mode: Literal["folded", "unfolded"] = "folded",
        init: Init = "default",
        select: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        stem: Literal["keep", "expand"] = "keep",
        classifier: Literal["keep", "expand"] = "keep",
        stride: Literal["middle", "last"] = "middle",
        depthwise: Depthwise = "grouped",
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.mode: Mode = mode
        self.init: Init = init
        self.paths: frozenset[str] | None = None
        self.options: dict[str, Any] = {
            "conv": conv,
            "linear": linear,
            "rate": rate,
            "select": select,
            "exclude": exclude,
            "stem": stem,
            "classifier": classifier,
            "stride": stride,
            "depthwise": depthwise,
            "overrides": overrides,
        }

    def plan(self, student: nn.Module) -> Plan:
        """Return what `apply` would do, printable."""
        return plan(student, **self.options)

    def apply(self, student: nn.Module) -> nn.Module:
        """Return an expanded copy of the student; ValueError where nothing matches."""
        self.paths = frozenset(row.path for row in self.plan(student).expanded)
        return expand(student, mode=self.mode, init=self.init, **self.options)

    def enter(self, student: nn.Module, phase: str) -> None:
        """Run the units nonlinearly, or linearly in the transform's mode."""
        modes: dict[str, Mode] = {"nonlinear": "nonlinear", "linear": self.mode}
        if phase not in modes:
            raise ValueError(f"phase: {phase!r} is not one of {', '.join(modes)}")
        set_mode(student, modes[phase], self.paths)

    def restore(self, student: nn.Module) -> nn.Module:
        """Return the compact network; ValueError in the nonlinear phase."""
        return compress(student, self.paths)


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(known)}")


def _nothing(model: nn.Module, planned: Plan) -> str:
    if not planned.rows:
        return f"{type(model).__name__} has no linear layer to expand"
    return f"no layer of {type(model).__name__} is expanded:\n{planned}"
