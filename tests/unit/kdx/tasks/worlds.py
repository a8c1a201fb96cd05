"""A measurement shared by two processes, of which this one is the first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["shared"]

Measure = Callable[[int], Any]


def shared(measure: Measure, folder: Path) -> list[Any]:
    """Return what `measure(rank)` gives in each of two processes that know each other."""
    other = torch.multiprocessing.get_context("spawn").Process(
        target=_work, args=(measure, 1, folder)
    )
    other.start()
    _work(measure, 0, folder)
    other.join()
    return [torch.load(folder / f"{rank}.pth") for rank in (0, 1)]


def _work(measure: Measure, rank: int, folder: Path) -> None:
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        torch.save(measure(rank), folder / f"{rank}.pth")
    finally:
        dist.destroy_process_group()
