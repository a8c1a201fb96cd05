"""The machine's memory: what would not fit is refused, instead of being killed by the system."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf, prod
from pathlib import Path

from kdx.util.words import in_bytes

try:
    import resource
except ImportError:  # not POSIX
    resource = None


CGROUPS = {  # v2, v1: the file of a container's quota, and the line of memory.stat for what is used
    "/sys/fs/cgroup/memory.max": "anon",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "total_rss",
}


def check_fits(needed: int, what: str) -> None:
    """Raise ValueError if `what` takes more bytes than this machine's memory has."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not POSIX
        total = inf
    if needed > (total := min(total, _quota()[0])):
        raise ValueError(f"{what}: {in_bytes(needed)}, but this machine has {in_bytes(total)}")


def at_once(shape: Sequence[int]) -> int:
    """Return how many images of `shape` (C, H, W) a network may see at once without gradients."""
    return max(1, 2**22 // prod(shape[1:]))  # 83 of 224 x 224, 2 of 1024 x 2048


def peak() -> int | None:
    """Return the most bytes of memory that this process has used, None if that is unknown."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes or in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def limited() -> Iterator[None]:
    """Let what asks for more memory than is free now fail, with the error of a full memory.

    Only on Linux, unless limited already, and not beside a GPU: its driver maps more than it uses.
    """
    import torch  # here, because recipes are read without it

    room = None if torch.cuda.is_available() else _room()
    before = resource.getrlimit(resource.RLIMIT_DATA) if resource else (0, 0)
    if room is None or resource is None or before[0] != resource.RLIM_INFINITY:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _quota() -> tuple[float, float]:
    """Return the bytes that the container may use and those that are free, inf outside of one."""
    for file, name in CGROUPS.items():
        with suppress(OSError, ValueError):  # no cgroup of this version, or no quota ("max")
            quota, used = int(Path(file).read_text(encoding="utf-8")), 0
            with suppress(OSError):
                lines = Path(file).with_name("memory.stat").read_text(encoding="utf-8").splitlines()
                used = sum(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))
            return quota, max(0, quota - used)
    return inf, inf


def _room() -> int | None:
    """Return the bytes that this process has and may still have, None if that is unknown."""
    try:
        used = proc_bytes("/proc/self/status", "VmData")
        return used + int(min(proc_bytes("/proc/meminfo", "MemAvailable"), _quota()[1]))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def proc_bytes(file: str, name: str) -> int:
    """Return the bytes in the line `name` of a file in /proc, such as `VmData:   360 kB`."""
    lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
