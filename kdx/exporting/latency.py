"""How long one call takes, of several contenders measured side by side."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

SECONDS = 1.0  # a contender, about
ROUNDS = 10, 200  # at least, at most


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, seconds: float = SECONDS
) -> dict[str, list[float]]:
    """Return the seconds of each call in each round, after two rounds that do not count.

    A round runs every contender once, in rotated order (A B C, then B C A, ...): the speed of the
    machine drifts, and neighbours drift alike.
    """
    names = list(calls)
    _round(calls, names)
    slow = sum(_round(calls, names).values())
    least, most = ROUNDS
    rounds = min(most, max(least, int(seconds * len(names) / max(slow, 1e-9))))
    turned = [names[i % len(names) :] + names[: i % len(names)] for i in range(rounds)]
    found = [_round(calls, order) for order in turned]
    return {name: [each[name] for each in found] for name in names}


def _round(calls: Mapping[str, Callable[[], object]], order: Sequence[str]) -> dict[str, float]:
    times = {}
    for name in order:
        started = time.perf_counter()
        calls[name]()
        times[name] = time.perf_counter() - started
    return times


def median_p95(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile, in milliseconds."""
    p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
    return 1000 * statistics.median(seconds), 1000 * p95
