"""Running the cells of a study several at a time, each as a `kdx distill` process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kdx.launch.stopping import PARENT
from kdx.training.runtime import cores
from kdx.util.errors import Stopped
from kdx.util.files import write_whole
from kdx_lab.study.arms import written
from kdx_lab.study.cell import Cell
from kdx_lab.study.running import WIDTH, Finished, asked_to_stop, log_of

__all__ = ["run_in_processes"]

PAUSE = 0.1  # seconds between two looks at the processes
STOPPED = 3  # the exit code of a run that a signal stopped


def run_in_processes(
    cells: Sequence[Cell], logs: Path, *, jobs: int, begun: Callable[[Cell], None]
) -> Generator[Finished]:
    """Run the cells, `jobs` at a time, sharing the cores and GPUs.

    If a signal asks for a stop, or the generator is closed, all processes are stopped with
    checkpoints; a signal raises Stopped. A process that dies is a cell that failed. If this process
    is killed, the others notice and stop by themselves.
    """
    todo, running = list(cells)[::-1], dict[int, _Process]()
    with asked_to_stop() as asked:
        try:
            while todo or running:
                for slot in range(jobs):
                    if todo and slot not in running:
                        running[slot] = _start(todo[-1], logs, slot=slot, jobs=jobs)
                        begun(todo.pop())
                time.sleep(PAUSE)
                ended = [slot for slot, each in running.items() if each.popen.poll() is not None]
                if asked:  # a process that the same signal has ended has not failed
                    raise Stopped
                for slot in ended:
                    yield running.pop(slot).finished()
        finally:
            for each in running.values():
                each.popen.terminate()
            for each in running.values():
                each.popen.wait()


@dataclass(frozen=True)
class _Process:
    """The process of a cell, whose output goes to `log`, from `start` on (bytes)."""

    cell: Cell
    popen: subprocess.Popen[bytes]
    log: Path
    start: int

    def finished(self) -> Finished:
        """Return how the cell ended, once its process has."""
        code = self.popen.wait()
        if code == 0:
            return Finished(self.cell, "")
        printed = self.log.read_bytes()[self.start :].decode(errors="replace").strip()
        _, error, message = f"\n{printed}".rpartition("\nerror: ")
        if code < 0:
            hint = ", usually because memory ran out" if code == -signal.SIGKILL else ""
            reason = f"its process was killed by {signal.Signals(-code).name}{hint}"
        elif code == STOPPED:
            reason = "its process was asked to stop"
        else:
            last = printed.rpartition("\n")[2]
            reason = message if error else f"its process ended with exit code {code}: {last}"
        return Finished(self.cell, f"{reason} (log: {self.log})")


def _start(cell: Cell, logs: Path, *, slot: int, jobs: int) -> _Process:
    """Start or resume a cell's run, from its resolved recipe beside the log."""
    recipe, log = cell.recipe, log_of(cell, logs)
    if recipe.threads is None:
        recipe = recipe.model_copy(update={"threads": max(1, cores() // jobs)})
    file = log.with_suffix(".yaml")
    logs.mkdir(parents=True, exist_ok=True)
    write_whole(file, recipe.to_yaml())
    words = ["kdx", "distill", str(file), "--resume"]
    for teacher in recipe.all_teachers.values():
        if (memo := teacher.memo) and memo.directory:
            # outside the output root it is allowed as an override only
            words += written({f"{teacher.component.where}.memo.directory": memo.directory})
    words += [f"--plugin={name}" for name in recipe.locations.plugins]
    words += [f"--output-root={recipe.locations.output_root}"]
    # -P: a file in the working directory must not hide a module.
    command = [sys.executable, "-P", "-m", *words]
    with log.open("ab") as output:
        start = output.tell()
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | _environment(slot),
        )
        return _Process(cell, popen, log, start)


def _environment(slot: int) -> dict[str, str]:
    """Return what a process finds in its environment: a GPU of its own, if there are several."""
    found = {PARENT: str(os.getpid()), "COLUMNS": str(WIDTH), "PYTHONUNBUFFERED": "1"}
    if (count := torch.cuda.device_count()) > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        found["CUDA_VISIBLE_DEVICES"] = visible.split(",")[slot % count]
    return found
