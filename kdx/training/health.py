"""Numbers gone wrong: losses, gradients and weights that are not finite."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor, nn

from kdx.util.errors import TrainingError

__all__ = ["ADVICE", "GRADIENT", "SHOWN", "Health", "bad_gradients"]

GRADIENT = "gradient"
SHOWN = 4
ADVICE = "lower the learning rate, set `clip: 1.0`, or use a warm-up, and start again (--overwrite)"


class Health:
    """Watches the steps of a stage. `place` begins its errors: stage, and rank of several.

    On the CPU a step is looked at when it is taken. Elsewhere that would halt the device: the
    first bad step is put down there, and read by `check`.
    """

    def __init__(self, objective: nn.Module, *, place: str) -> None:
        self.objective, self.place = objective, place
        self._masks = set(_bad(objective.named_buffers()))  # infinite by design
        self._names: list[str] = []
        self._first: Tensor | None = None

    def observe(self, step: int, epoch: int, values: Mapping[str, Tensor]) -> None:
        """Look at scalars by name: the terms, and the norm of the "gradient". Both count from 1.

        Raises TrainingError on the CPU where one is not finite.
        """
        if next(iter(values.values())).device.type == "cpu":
            found = {n: float(v) for n, v in values.items() if not isfinite(v)}
            if set(found) - {GRADIENT} or (found and bad_gradients(self.objective)):
                self._fail(found, f"in step {step} of epoch {epoch}")
        else:
            self.note(step, values)

    def note(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Put down, on their device, since which step scalars are not finite, for `check`."""
        self._names = list(values)
        scalars = torch.stack([value.detach().float() for value in values.values()])
        now = torch.where(scalars.isfinite(), torch.inf, float(step))
        self._first = now if self._first is None else torch.minimum(self._first, now)

    def check(self, epoch: int) -> None:
        """Raise TrainingError where a step since the last call was not finite."""
        if self._first is None:
            return
        first, self._first = dict(zip(self._names, self._first.tolist(), strict=True)), None
        step = min(first.values())
        if isfinite(step):
            found = {name: float("nan") for name, at in first.items() if at == step}
            if set(found) - {GRADIENT} or _bad(self.objective.named_parameters()):
                self._fail(found, f"in step {int(step)} of epoch {epoch}, seen later")

    def check_weights(self) -> None:
        """Raise TrainingError where a weight or a buffer is not finite; reads all of them."""
        buffers = ((n, b) for n, b in self.objective.named_buffers() if n not in self._masks)
        bad = _bad([*self.objective.named_parameters(), *buffers])
        if bad:
            raise TrainingError(
                f"{self.place}: {_some(bad)} became infinite or no number; no checkpoint of that "
                f"was written: {ADVICE}"
            )

    def _fail(self, found: Mapping[str, float], when: str) -> None:
        what = [f"the loss {n!r} became {value}" for n, value in found.items() if n != GRADIENT]
        if weights := _bad(self.objective.named_parameters()):
            what.append(f"the weights {_some(weights)} are so already")
        elif gradients := bad_gradients(self.objective):
            what.append(f"the gradient of {_some(gradients)} is infinite or no number")
        raise TrainingError(f"{self.place}: {when}, {', '.join(what)}: {ADVICE}")


def bad_gradients(objective: nn.Module) -> list[str]:
    """Name the parameters whose gradient is not finite."""
    named = objective.named_parameters()
    return _bad((name, p.grad) for name, p in named if p.grad is not None)


def _bad(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    return [name for name, value in named if not value.isfinite().all()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
