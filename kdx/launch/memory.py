"""The machine's memory: what would not fit is refused, rather than left to the system to kill."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

from kdx.util.words import in_bytes

__all__ = ["at_once", "check_fits", "limited"]

_KB = 1024


def check_fits(needed: int, what: str) -> None:
    """Raise ValueError where `what`, of so many bytes, is more than this machine's memory."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(f"{what}: {in_bytes(needed)}, but this machine has {in_bytes(there)}")


def at_once(shape: Sequence[int]) -> int:
    """Return how many images of `shape` (C, H, W) a network may see at once without gradients.

    At least one; 83 of 224 x 224, 2 of 1024 x 2048: the layers' outputs are tens of times as large.
    """
    return max(1, 2**22 // prod(shape[1:]))


@contextmanager
def limited() -> Iterator[None]:
    """Let what asks for more memory than is free now fail, with the error of a full memory.

    Counts this process alone. Does nothing where the system does not say (it is not Linux), or
    limits its processes already, and beside a GPU, whose driver maps more than it uses.
    """
    import torch  # here, because recipes are read without it

    room = None if torch.cuda.is_available() else _room()
    if room is None:
        yield
        return
    import resource  # here, because only POSIX has it

    before = resource.getrlimit(resource.RLIMIT_DATA)
    if before[0] != resource.RLIM_INFINITY:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _room() -> int | None:
    """The bytes of data that this process has and may still have; None where that is unknown."""
    try:
        return _field("/proc/self/status", "VmData") + _field("/proc/meminfo", "MemAvailable")
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _field(file: str, name: str) -> int:
    """The bytes that a line of a file in /proc says: `VmData:   360 kB`."""
    lines = Path(file).read_text().splitlines()
    return _KB * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
