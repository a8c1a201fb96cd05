"""How many cores a process may use."""

import os
from pathlib import Path


def share_of_cores(world: int) -> int:
    """Return the cores for each of `world` processes, as far as they are on this machine."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", str(world))))


def cores() -> int:
    """Return the cores that this process may use, by its affinity and its container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or no quota ("max")
        return cores
