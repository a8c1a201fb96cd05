"""Running the cells of a study: here, one after another, or in processes of their own."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType

from rich.console import Console

from kdx.cli import allow
from kdx.study.cell import Cell
from kdx.study.grid import open_study

__all__ = ["Finished", "Request", "gpus", "run_here", "run_in_processes"]

WIDTH = 160  # of the lines in a cell's log


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


@dataclass(frozen=True)
class Finished:
    """A cell that has come to its end; `reason` says why it failed, "" where it did not."""

    cell: Cell
    reason: str


def run_here(
    cells: Sequence[Cell], logs: Path, *, begun: Callable[[Cell], None]
) -> Iterator[Finished]:
    """Run the cells one after another; Stopped where a signal asks for it."""
    for cell in cells:
        begun(cell)
        yield Finished(cell, run_cell(cell, logs))


def run_cell(cell: Cell, logs: Path) -> str:
    """Run a cell, or go on with it; return why it failed, "" where it did not.

    What a run says on the terminal goes into a file below `logs`.
    """
    from kdx.health import TrainingError
    from kdx.run import CertificateError, run

    path = logs / f"{'-'.join(cell.recipe.name.split('/')[-3:])}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            run(cell.recipe, Console(file=file, width=WIDTH), resume=True)
        except (TrainingError, CertificateError, ValueError, OSError) as error:
            print(f"error: {error}", file=file)
            return str(error)
    return ""


def run_in_processes(
    cells: Sequence[Cell],
    logs: Path,
    *,
    jobs: int,
    request: Request,
    numbers: Sequence[int],
    begun: Callable[[Cell], None],
) -> Iterator[Finished]:
    """Run the cells in `jobs` processes, each as soon as one is free.

    `numbers` are the places of the cells in the study's grid. Where a signal asks for a stop, or
    this process is interrupted, all are stopped with checkpoints, and Stopped is raised. Of a
    process that dies the cell has failed; another takes its place.
    """
    from kdx.stopping import Stopped

    todo = list(zip(cells, numbers, strict=True))[::-1]
    workers = [_Worker(request, logs, number, jobs) for number in range(min(jobs, len(todo)))]
    with _asked_to_stop() as asked:
        try:
            while todo or any(worker.cell for worker in workers):
                for worker in workers:
                    if worker.cell is None and todo:
                        cell, number = todo.pop()
                        worker.give(cell, number)
                        begun(cell)
                busy = [worker.pipe for worker in workers if worker.cell]
                for pipe in wait(busy, timeout=0.5):
                    worker = next(w for w in workers if w.pipe is pipe)
                    yield worker.take()
                if asked:
                    raise Stopped
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """A process that runs the cells that it is given, one at a time."""

    def __init__(self, request: Request, logs: Path, number: int, jobs: int) -> None:
        self._arguments = (request, logs, number, jobs)
        self.cell: Cell | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *self._arguments))
        self._process.start()
        theirs.close()

    def give(self, cell: Cell, number: int) -> None:
        """Let it run a cell, the `number`-th of the study."""
        self.cell = cell
        self.pipe.send(number)

    def take(self) -> Finished:
        """Return the cell that it has come to the end of."""
        assert self.cell is not None, "only what was given comes back"
        cell, self.cell = self.cell, None
        try:
            return Finished(cell, self.pipe.recv())
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._start()
            return Finished(cell, f"its process ended with exit code {code}: killed, or no memory")

    def end(self) -> None:
        """Stop it, with a checkpoint where it trains, and wait for that."""
        if self.cell is not None and self._process.is_alive():
            self._process.terminate()
        self.pipe.close()
        self._process.join()


def _work(pipe: Connection, request: Request, logs: Path, number: int, jobs: int) -> None:
    """Run cells as long as there are any. Ctrl-C is for the process that gives them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if request.gpus > 1:  # before torch is imported
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(number % request.gpus))
    allow(request.plugins)
    grid = open_study(
        request.path, request.overrides, plugins=request.plugins, output_root=request.output_root
    )
    from kdx.loop import cores
    from kdx.stopping import Stopped

    threads = max(1, cores() // jobs)
    try:
        while True:
            cell = grid.cells[pipe.recv()]
            if cell.recipe.threads is None:
                recipe = cell.recipe.model_copy(update={"threads": threads})
                cell = replace(cell, recipe=recipe)
            pipe.send(run_cell(cell, logs))
    except (EOFError, OSError, Stopped):  # the study has ended, or stops
        pass


def _end_with(parent: int) -> None:
    """Stop this process as a signal would, once the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect the signals that ask for a stop, instead of ending at once."""
    from kdx.stopping import SIGNALS

    asked: list[int] = []
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
