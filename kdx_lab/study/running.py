"""Running the cells of a study in this process, one after another, and stopping in between."""

import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from kdx.util.errors import CertificateError, Stopped, TrainingError
from kdx_lab.study.cell import Cell

__all__ = [
    "Finished",
    "asked_to_stop",
    "log_of",
    "processes_of_run",
    "run_cell",
    "run_here",
    "stopping",
]

WIDTH = 160  # of the lines in a cell's log


@dataclass(frozen=True)
class Finished:
    """A cell that has come to its end; `reason` says why it failed, "" where it did not."""

    cell: Cell
    reason: str


def run_here(
    cells: Sequence[Cell], logs: Path, *, begun: Callable[[Cell], None]
) -> Generator[Finished]:
    """Run the cells one after another; Stopped where a signal asks for it while one trains."""
    for cell in cells:
        begun(cell)
        yield Finished(cell, run_cell(cell, logs))


def run_cell(cell: Cell, logs: Path) -> str:
    """Run a cell, or go on with it; return why it failed, "" where it did not.

    What a run says on the terminal goes into a file below `logs`, and so does the traceback of
    what nobody foresaw. Raises Stopped; and of several processes that train a run together, what
    one of them may meet alone, since the others would wait for it.
    """
    from kdx.run.run import run

    foreseen = (TrainingError, CertificateError)
    path = log_of(cell, logs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            run(cell.recipe, Console(file=file, width=WIDTH), resume=True)
        except Stopped:
            raise
        except Exception as error:
            if processes_of_run() > 1 and not isinstance(error, foreseen):
                raise
            if isinstance(error, (*foreseen, ValueError, OSError)):
                reason = str(error)
            else:
                traceback.print_exc(file=file)
                reason = f"{type(error).__name__}: {error}"
            print(f"error: {reason}", file=file)
            return f"{reason} (log: {path})"
    return ""


def log_of(cell: Cell, logs: Path) -> Path:
    """Return the file that a cell's run says in what it says on a terminal."""
    return logs / f"{'--'.join(cell.recipe.name.split('/')[-3:])}.txt"


def processes_of_run() -> int:
    """Return how many processes a launcher has started to train each run together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def stopping() -> Iterator[None]:
    """Raise Stopped where a signal asks for a stop while nothing trains, too."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    with _heard(stop):
        yield


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Collect the signals that ask for a stop, instead of ending at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    with _heard(note):
        yield asked


@contextmanager
def _heard(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a handler hear the signals that ask for a stop, but for what nohup ignores."""
    from kdx.launch.stopping import SIGNALS

    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
