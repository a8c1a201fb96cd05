"""Axes of figures: ranges with round ticks, and how their numbers are written."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

WANTED = 4  # intervals between ticks, about


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, with its ticks; `log` if it is logarithmic."""

    low: float
    high: float
    ticks: Sequence[float]
    log: bool = False

    def onto(self, start: float, end: float) -> Callable[[float], float]:
        """Return the function that places a value between two coordinates."""

        def position(value: float) -> float:
            low, high, at = (
                log10(each) if self.log else each for each in (self.low, self.high, value)
            )
            return start + (end - start) * (at - low) / (high - low)

        return position


def scale_of(values: Iterable[float], *, log: bool = False, whole: bool = False) -> Scale:
    """Return a scale that contains all finite values; `whole`: ticks are integers.

    Linear scales end at ticks, 1, 2 or 5 times a power of ten apart; logarithmic ones at powers
    of ten. They are logarithmic only if all values are positive.
    """
    found = [value for value in values if isfinite(value)] or [0.0]
    low, high = min(found), max(found)
    if log and low > 0:
        first, last = floor(log10(low)), max(ceil(log10(high)), floor(log10(low)) + 1)
        every = ceil((last - first) / (2 * WANTED))
        ticks = [10.0**power for power in range(first, last + 1, every)]
        return Scale(10.0**first, 10.0**last, ticks, log=True)
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # all equal
        low, high = (low - 1, high + 1) if whole or not low else (low - abs(low), low + abs(low))
    rough = (high - low) / WANTED
    power = 10.0 ** floor(log10(rough))
    step = min((n * power for n in (1, 2, 5, 10)), key=lambda each: abs(log10(each / rough)))
    step = max(1.0, step) if whole else step
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    ticks = [n * step for n in range(first, last + 1)]
    if whole:  # as far as the values go
        return Scale(low, high, [tick for tick in ticks if low <= tick <= high])
    return Scale(ticks[0], ticks[-1], ticks)


def written(value: float) -> str:
    """Return a tick's number: "0.25", "1,000", "1e-05"."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.6f}".rstrip("0").rstrip(".")
