"""Losses, gradients and weights that are NaN or Inf."""

from collections.abc import Iterable, Mapping
from math import isfinite

import torch
from torch import Tensor, nn

from kdx.util.errors import TrainingError
from kdx.util.words import listed

GRADIENT = "gradient"
ADVICE = "lower the learning rate, set `clip: 1.0`, or use a warm-up, and start again (--overwrite)"


class Health:
    """Watches the steps of a stage; `place`, in its errors, is the stage, and the rank of several.

    On the CPU a step is checked when it is taken. Elsewhere that would halt the device: the first
    bad step is recorded there, and read by `check`. Steps and epochs count from 1.
    """

    def __init__(self, objective: nn.Module, *, place: str) -> None:
        self.objective, self.place = objective, place
        self._masks = set(_bad(objective.named_buffers()))  # infinite by design
        self._names: list[str] = []
        self._first: Tensor | None = None

    def observe(self, step: int, epoch: int, values: Mapping[str, Tensor]) -> None:
        """Check scalars by name: the terms, and the norm of the "gradient".

        Raises TrainingError, on the CPU, if one is not finite.
        """
        if next(iter(values.values())).device.type == "cpu":
            found = {n: float(v) for n, v in values.items() if not isfinite(v)}
            if set(found) - {GRADIENT} or (found and bad_gradients(self.objective)):
                self._fail(found, f"step {step} of epoch {epoch}")
        else:
            self.note(step, values)

    def note(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Record on their device since which step scalars are not finite, for `check`."""
        self._names = list(values)
        scalars = torch.stack([value.detach().float() for value in values.values()])
        now = torch.where(scalars.isfinite(), torch.inf, float(step))
        self._first = now if self._first is None else torch.minimum(self._first, now)

    def check(self, epoch: int) -> None:
        """Raise TrainingError if a step since the last call was not finite."""
        if self._first is None:
            return
        first, self._first = dict(zip(self._names, self._first.tolist(), strict=True)), None
        step = min(first.values())
        if isfinite(step):
            found = {name: float("nan") for name, at in first.items() if at == step}
            if set(found) - {GRADIENT} or _bad(self.objective.named_parameters()):
                self._fail(found, f"step {int(step)} of epoch {epoch}, noticed later")

    def check_weights(self) -> None:
        """Raise TrainingError if a weight or a buffer is not finite; reads all of them."""
        buffers = ((n, b) for n, b in self.objective.named_buffers() if n not in self._masks)
        if bad := _bad([*self.objective.named_parameters(), *buffers]):
            what = f"weights contain NaN or Inf: {listed(bad)}"
            raise self.diverged(what, "no checkpoint of that was written")

    def diverged(self, what: str, when: str) -> TrainingError:
        """Return the error that ends a run."""
        return diverged(what, f"{self.place}; {when}")

    def _fail(self, found: Mapping[str, float], when: str) -> None:
        what = [f"non-finite loss {n!r}: {value}" for n, value in found.items() if n != GRADIENT]
        if bad := _bad(self.objective.named_parameters()):
            what.append(f"weights contain NaN or Inf already: {listed(bad)}")
        elif bad := bad_gradients(self.objective):
            what.append(f"gradient contains NaN or Inf: {listed(bad)}")
        raise self.diverged(", ".join(what), when)


def diverged(what: str, where: str) -> TrainingError:
    """Return the error that ends a run."""
    return TrainingError(f"training diverged: {what} ({where}): {ADVICE}")


def is_finite(outputs: Tensor) -> bool:
    """Return whether outputs [B, ...] are; what is -Inf for every image is masked by design."""
    masked = outputs.isneginf().all(dim=0)
    return bool((outputs.isfinite() | masked).all())


def bad_gradients(objective: nn.Module) -> list[str]:
    """Name the parameters whose gradient is not finite."""
    named = objective.named_parameters()
    return _bad((name, p.grad) for name, p in named if p.grad is not None)


def _bad(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    return [name for name, value in named if not value.isfinite().all()]
