"""Runs on this machine, several at a time, each in a process of its own."""

import os
from collections.abc import Mapping, Sequence

from kdx.launch.cores import cores
from kdx_lab.executors.task import RunProcess, Task

__all__ = ["Local"]


class Local:
    """Trains `jobs` tasks at a time, in the order of submission; each gets GPUs of its own."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self.threads = None if jobs == 1 else max(1, cores() // jobs)
        self.queue: list[Task] = []
        self.runs: dict[str, tuple[int, RunProcess]] = {}  # with their slots

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue tasks."""
        self.queue += tasks

    def poll(self) -> Mapping[str, bool]:
        """Start what there is room for."""
        taken = {slot for slot, run in self.runs.values() if run.running}
        for slot in set(range(self.jobs)) - taken:
            if self.queue:
                task = self.queue.pop(0)
                self.runs[task.name] = slot, RunProcess(task, _gpus(slot, task.processes))
        return {name: not run.running for name, (_, run) in self.runs.items()}

    def fetch(self, name: str) -> str:
        """Return why a run failed; its files are here already."""
        return self.runs.pop(name)[1].reason()

    def cancel(self, name: str | None = None) -> None:
        """Stop a run, or all and wait for their checkpoints; drop what waits."""
        self.queue = [task for task in self.queue if name not in (None, task.name)]
        stopped = [run for each, (_, run) in self.runs.items() if name in (None, each)]
        for run in stopped:
            run.stop()
        for run in stopped if name is None else ():
            run.wait()


def _gpus(slot: int, processes: int) -> dict[str, str]:
    """Return the environment of a slot: GPUs of its own, if there are several."""
    import torch

    if (count := torch.cuda.device_count()) < 2:
        return {}
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(
        ","
    )
    mine = range(slot * processes, (slot + 1) * processes)
    return {"CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(visible[n % count] for n in mine))}
