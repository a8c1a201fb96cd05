"""A function of many items, in threads that wait for files together."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_threads"]

THREADS = 16
MOST = 500  # items that a thread takes at once: a future for each of many would cost more than stat

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield what `function` returns for each item, in order; what it raises ends it."""
    size = max(1, min(MOST, len(items) // (4 * THREADS)))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(THREADS) as threads:
        for part in threads.map(lambda part: [function(item) for item in part], parts):
            yield from part
