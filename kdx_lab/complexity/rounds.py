"""Interleaved rounds of training steps in one process, and ratios of their speeds.

Speeds drift with the load and temperature of the machine; ratios of neighbours drift less. So a
round runs every contender once (A B C, then B C A, ...), and the result is the median over the
rounds of the ratio within a round, with its quartiles.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Contender", "Quartiles", "Rounds", "interleave", "measure"]

Step = Callable[[], object]


@dataclass(frozen=True)
class Contender:
    """`build()` returns a callable that processes `images` images, in one step or several."""

    name: str
    build: Callable[[], Step]
    images: int


@dataclass(frozen=True)
class Quartiles:
    """A median between its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Quartiles":
        """Summarise one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        """`0.97 [0.96, 0.98]`; images per second without decimals and quartiles."""
        if self.median >= 20:
            return f"{self.median:,.0f}"
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Rounds:
    """Images per second of each contender in each round, by name; all lists have one length."""

    def __init__(self, speeds: Mapping[str, Sequence[float]]) -> None:
        self.speeds = speeds

    def speed(self, name: str) -> Quartiles:
        """Images per second."""
        return Quartiles.of(self.speeds[name])

    def ratio(self, name: str, to: str) -> Quartiles:
        """Speed of `name` over that of `to`, round by round."""
        pairs = zip(self.speeds[name], self.speeds[to], strict=True)
        return Quartiles.of([a / b for a, b in pairs])


def measure(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    seconds: float = 0.3,
    repeats: int | None = None,
    warmup: int = 3,
) -> Rounds:
    """Build all contenders, warm them up, and time them in interleaved rounds.

    In a round each runs as many steps as take about `seconds`, or `repeats` steps, after `warmup`
    steps, one or more: the first allocates gradients and momentum.
    """
    steps = {c.name: c.build() for c in contenders}
    lasts = {n: [_timed(step, 1) for _ in range(warmup)][-1] for n, step in steps.items()}
    counts = {name: repeats or max(1, round(seconds / lasts[name])) for name in steps}
    images = {c.name: c.images * counts[c.name] for c in contenders}

    def run(name: str) -> float:
        return images[name] / _timed(steps[name], counts[name])

    return interleave(run, list(steps), rounds=rounds)


def interleave(run: Callable[[str], float], names: Sequence[str], *, rounds: int) -> Rounds:
    """Call `run(name)`, which returns a speed, for every name in every round, in rotated order."""
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for start in range(rounds):
        for position in range(len(names)):
            name = names[(start + position) % len(names)]
            speeds[name].append(run(name))
    return Rounds(speeds)


def _timed(step: Step, calls: int) -> float:
    _synchronise()
    started = time.perf_counter()
    for _ in range(calls):
        step()
    _synchronise()
    return time.perf_counter() - started


def _synchronise() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
