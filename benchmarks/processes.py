"""Rounds in several processes at once, which train in lockstep by DDP over gloo."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from kdx_lab.complexity.rounds import Rounds

__all__ = ["side_by_side"]


def side_by_side(measure: Callable[[], Rounds], processes: int, threads: int) -> Rounds:
    """Call `measure` in `processes` that share the `threads`; return the rounds of rank 0's clock.

    It is pickled, and all must run the same number of steps: give `kdx_lab`'s `measure` `repeats`.
    """
    with TemporaryDirectory() as directory:
        spawn(_process, (measure, processes, threads, directory), nprocs=processes)
        return Rounds(torch.load(Path(directory, "speeds")))


def _process(
    rank: int, measure: Callable[[], Rounds], processes: int, threads: int, directory: str
) -> None:
    torch.set_num_threads(max(1, threads // processes))
    where = {"init_method": f"file://{directory}/meet", "rank": rank, "world_size": processes}
    distributed.init_process_group("gloo", **where)
    measured = measure()
    if rank == 0:
        torch.save(dict(measured.speeds), Path(directory, "speeds"))
    distributed.destroy_process_group()
