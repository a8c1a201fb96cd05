"""Running the cells of a study in processes of their own, several at once."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from kdx.recipe import allow
from kdx.util.errors import Stopped
from kdx_lab.study.cell import Cell
from kdx_lab.study.grid import open_study
from kdx_lab.study.running import Finished, asked_to_stop, log_of, run_cell

__all__ = ["Request", "gpus", "run_in_processes"]


@dataclass(frozen=True)
class Request:
    """What `open_study` is asked for: a process reads the study again."""

    path: str
    overrides: Sequence[str]
    plugins: Sequence[str]
    output_root: str
    gpus: int = 0


def gpus() -> int:
    """Return how many GPUs there are to share among processes."""
    import torch

    return torch.cuda.device_count()


def run_in_processes(
    cells: Sequence[Cell],
    logs: Path,
    *,
    jobs: int,
    request: Request,
    numbers: Sequence[int],
    begun: Callable[[Cell], None],
) -> Generator[Finished]:
    """Run the cells in `jobs` processes, each as soon as one is free.

    `numbers` are the places of the cells in the study's grid. Where a signal asks for a stop, or
    this process is interrupted, all are stopped with checkpoints, and Stopped is raised. Of a
    process that dies the cell has failed; another takes its place.
    """

    todo = list(zip(cells, numbers, strict=True))[::-1]
    workers: list[_Worker] = []
    with asked_to_stop() as asked:
        try:
            workers += (_Worker(request, logs, each, jobs) for each in range(min(jobs, len(todo))))
            while todo or any(worker.cell for worker in workers):
                for worker in workers:
                    if worker.cell is None and todo:
                        cell, number = todo.pop()
                        worker.give(cell, number)
                        begun(cell)
                busy = [worker.pipe for worker in workers if worker.cell]
                ready = wait(busy, timeout=0.5)
                if asked:  # a worker that is stopped, too, has not failed
                    raise Stopped
                for worker in workers:
                    if worker.pipe in ready:
                        yield worker.take()
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """A process that runs the cells that it is given, one at a time."""

    def __init__(self, request: Request, logs: Path, number: int, jobs: int) -> None:
        self._arguments = (request, logs, number, jobs)
        self._logs = logs
        self.cell: Cell | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *self._arguments))
        with _interrupts_blocked():  # until the process ignores them
            self._process.start()
        theirs.close()

    def give(self, cell: Cell, number: int) -> None:
        """Let it run a cell, the `number`-th of the study."""
        self.cell = cell
        if not self._process.is_alive():
            self._start()
        with suppress(BrokenPipeError):  # it has died since: `take` says so
            self.pipe.send((number, cell.recipe.to_yaml()))

    def take(self) -> Finished:
        """Return the cell that it has come to the end of."""
        assert self.cell is not None, "only what was given comes back"
        cell, self.cell = self.cell, None
        try:
            return Finished(cell, self.pipe.recv())
        except (EOFError, OSError):  # it has died
            self.pipe.close()
            self._process.join()
            reason = f"its process {_ended(self._process.exitcode or 0)}"
            return Finished(cell, f"{reason} (log: {log_of(cell, self._logs)})")

    def end(self) -> None:
        """Stop it, with a checkpoint where it trains, and wait for that."""
        if self.cell is not None and self._process.is_alive():
            self._process.terminate()
        self.pipe.close()
        self._process.join()


def _ended(code: int) -> str:
    """Say how a process ended that should not have."""
    if code >= 0:
        return f"ended with exit code {code}" if code else "was asked to stop"
    hint = ", as the system does where memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"


def _work(pipe: Connection, request: Request, logs: Path, number: int, jobs: int) -> None:
    """Run cells as long as there are any. Ctrl-C is for the process that gives them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if request.gpus > 1:  # before torch is imported
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(number % request.gpus))
    allow(request.plugins)
    grid = open_study(
        request.path, request.overrides, plugins=request.plugins, output_root=request.output_root
    )
    from kdx.training.runtime import cores

    threads = max(1, cores() // jobs)
    try:
        while True:
            number, asked = pipe.recv()
            if number >= len(grid.cells) or grid.cells[number].recipe.to_yaml() != asked:
                pipe.send("the study's file or its recipes changed while it ran: start it again")
                continue
            cell = grid.cells[number]
            if cell.recipe.threads is None:
                recipe = cell.recipe.model_copy(update={"threads": threads})
                cell = replace(cell, recipe=recipe)
            pipe.send(run_cell(cell, logs))
    except (EOFError, OSError, Stopped):  # the study has ended, or stops
        pass


def _end_with_parent() -> None:
    """Stop this process as a signal would, once the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "the study has started this process"
    parent.join()  # returns at once where it was gone before we looked
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let Ctrl-C wait, also in a process that is started in here."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
