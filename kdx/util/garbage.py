"""Python's garbage collector while a command starts.

Imports make many objects that stay, which the collector visits again and again: a tenth to a fifth
of the time until the first step (benchmarks/LOG.md).
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_SELDOM = (50_000, 20, 20)
_usual: list[tuple[int, int, int]] = []


@contextmanager
def collected_seldom() -> Iterator[None]:
    """Let the collector run seldom, until the end or `collect_as_usual`."""
    _usual.append(gc.get_threshold())
    gc.set_threshold(*_SELDOM)
    try:
        yield
    finally:
        collect_as_usual()


def collect_as_usual() -> None:
    """Let the collector run as before `collected_seldom`, if that was called."""
    while _usual:
        gc.set_threshold(*_usual.pop())
