"""What is done to all units of a network: find them, run them in a mode, hold their products."""

from collections.abc import Collection, Iterator
from types import TracebackType

from torch import Tensor, nn

from expand.units import MODES, ExpandedUnit, Mode

__all__ = ["Hold", "products", "set_mode", "units"]


def units(
    model: nn.Module, paths: Collection[str] | None = None
) -> Iterator[tuple[str, ExpandedUnit]]:
    """Yield the path and the unit of every expanded layer in `model`, or of those at `paths`."""
    for path, module in model.named_modules():
        if isinstance(module, ExpandedUnit) and (paths is None or path in paths):
            yield path, module


def set_mode(model: nn.Module, mode: Mode, paths: Collection[str] | None = None) -> None:
    """Run the units of `model`, or those at `paths`, in `mode` from now on.

    Raises ValueError for an unknown mode, and if there is no unit.
    """
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r} is not one of {', '.join(MODES)}")
    found = [*units(model, paths)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no expanded layer to set to mode {mode!r}")
    for _, unit in found:
        unit.mode = mode


def products(model: nn.Module, paths: Collection[str] | None) -> dict[str, Tensor]:
    """Return the compact weights and biases of the units at `paths` by name, differentiably."""
    found: dict[str, Tensor] = {}
    for path, unit in units(model, paths):
        start, bias = f"{path}." if path else "", unit.bias
        found[f"{start}weight"] = unit.weight
        if bias is not None:
            found[f"{start}bias"] = bias
    return found


class Hold:
    """Inside `with Hold(model):` each unit's product is made once, and forgotten at the end.

    For an evaluation, or for a forward pass that runs a layer several times. The factors must not
    change inside, and a graph is run backwards once. Can be entered again and again.
    """

    def __init__(self, model: nn.Module, paths: Collection[str] | None = None) -> None:
        self._units = [unit for _, unit in units(model, paths)]

    def __enter__(self) -> None:
        """Let the units keep their products."""
        for unit in self._units:
            unit._held = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the units forget them."""
        for unit in self._units:
            unit._held = None
