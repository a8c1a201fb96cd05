"""Quantisation-aware training as a student transform, the class that recipes name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from expand.copying import copied
from quantize.layers import layers, linear_layers, restore_layer, wrap_layer

__all__ = ["QAT"]

Phase = Literal["float", "int8"]
PHASES: tuple[Phase, ...] = ("float", "int8")


class QAT:
    """Quantisation-aware training, for `use: quantize.QAT` in a recipe (Jacob et al. 2018).

    Convolutions and fully-connected layers compute with weights rounded to int8, symmetric and per
    output channel, and inputs rounded to uint8, affine and per tensor: in train and in eval mode,
    so that the epoch is chosen that is best in int8. After `expand.ExpandNet`, the compact weights
    are rounded. Layers whose paths match a pattern of `exclude` (as of `fnmatch`) stay in float.

    Phases: `float` trains as if the transform were not there, `int8` rounds. `start` is the one to
    begin in, where the first stage names none.
    """

    phases = PHASES

    def __init__(self, *, exclude: str | Sequence[str] = (), start: Phase = "int8") -> None:
        self.exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        _check("start", start)
        self.start = start

    def plan(self, student: nn.Module) -> str:
        """Return a table of the layers: `int8`, or why they stay in float."""
        rows = self._rows(student)
        width = max((len(path) for path, _, _ in rows), default=0)
        return "\n".join(f"{path:{width}}  {reason or 'int8'}" for path, _, reason in rows)

    def apply(self, student: nn.Module) -> nn.Module:
        """Return a quantised copy of the student; ValueError if no layer can be."""
        quantised = copied(student)
        rows = self._rows(quantised)
        chosen = {id(layer): layer for _, layer, reason in rows if not reason}
        if not chosen:
            reasons = "; ".join(f"{path}: {reason}" for path, _, reason in rows)
            raise ValueError(
                f"{type(student).__name__} has no layer to quantise{reasons and f': {reasons}'}"
            )
        for layer in chosen.values():
            wrap_layer(layer, quantising=self.start == "int8")
        return quantised

    def enter(self, student: nn.Module, phase: str) -> None:
        """Compute in float, or rounded as in int8, from now on."""
        _check("phase", phase)
        for _, layer in layers(student):
            layer.quantising = phase == "int8"

    def restore(self, student: nn.Module) -> nn.Module:
        """Return the network in float: its weights as they were trained, not rounded."""
        network = copied(student)
        for _, layer in [*layers(network)]:
            restore_layer(layer)
        return copied(network)  # which gives parametrised layers classes of their own again

    @contextmanager
    def exact(self, student: nn.Module) -> Iterator[None]:
        """Let the student compute in float for a while, as `restore`'s network does."""
        before = [(layer, layer.quantising) for _, layer in layers(student)]
        try:
            for layer, _ in before:
                layer.quantising = False
            yield
        finally:
            for layer, quantising in before:
                layer.quantising = quantising

    def about(self, student: nn.Module) -> Mapping[str, Any]:
        """Return {"int8": {"input_ranges": {path: [low, high]}}}; empty in the float phase.

        Without layers that have seen no batch: they run in float.
        """
        found = [(path, layer) for path, layer in layers(student) if layer.quantising]
        ends = {path: layer.input_range.tolist() for path, layer in found}
        ranges = {path: [low, high] for path, (low, high) in ends.items() if low < high}
        return {"int8": {"input_ranges": ranges}} if found else {}

    def _rows(self, student: nn.Module) -> list[tuple[str, nn.Module, str]]:
        rows = [*linear_layers(student)]
        for pattern in self.exclude:
            if not any(fnmatchcase(path, pattern) for path, _, _ in rows):
                known = ", ".join(path for path, _, _ in rows[:8]) or "none"
                raise ValueError(f"exclude: {pattern!r} matches no layer. Layers: {known}")
        return [(p, each, "excluded" if self._excludes(p) else why) for p, each, why in rows]

    def _excludes(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self.exclude)


def _check(name: str, phase: str) -> None:
    if phase not in PHASES:
        raise ValueError(f"{name}: {phase!r} is not one of {', '.join(PHASES)}")
