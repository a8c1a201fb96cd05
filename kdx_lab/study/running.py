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
    "WIDTH",
    "Finished",
    "asked_to_stop",
    "log_of",
    "run_here",
    "stopping",
    "world_size",
]

WIDTH = 160  # of the lines in a cell's log


@dataclass(frozen=True)
class Finished:
    """A cell whose run has ended; `reason` says why it failed, "" if it did not."""

    cell: Cell
    reason: str


def run_here(
    cells: Sequence[Cell], logs: Path, *, begun: Callable[[Cell], None]
) -> Generator[Finished]:
    """Run the cells one after another, resuming what was interrupted; Stopped by a signal.

    The output of a run goes to a file below `logs`, as does the traceback of an unexpected error.
    If several processes train a run together, only errors that all of them see fail just the cell;
    others are raised, since the other processes would wait forever.
    """
    for cell in cells:
        begun(cell)
        yield Finished(cell, _run(cell, log_of(cell, logs)))


def _run(cell: Cell, log: Path) -> str:
    """Run a cell; return why it failed, "" if it did not."""
    from kdx.run.run import run

    expected = (TrainingError, CertificateError)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        try:
            run(
                cell.recipe, Console(file=file, width=WIDTH, markup=False, emoji=False), resume=True
            )
        except Stopped:
            raise
        except Exception as error:
            if world_size() > 1 and not isinstance(error, expected):
                raise
            reason = str(error)
            if not isinstance(error, (*expected, ValueError, OSError)):
                traceback.print_exc(file=file)
                reason = f"{type(error).__name__}: {error}"
            print(f"error: {reason}", file=file)
            return f"{reason} (log: {log})"
    return ""


def log_of(cell: Cell, logs: Path) -> Path:
    """Return the file that the output of a cell's run goes to."""
    return logs / f"{'--'.join(cell.recipe.name.split('/')[-3:])}.txt"


def world_size() -> int:
    """Return the world size: how many processes a launcher started to train each run together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def stopping() -> Iterator[None]:
    """Raise Stopped also if a signal asks for a stop while nothing trains."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    with _heard(stop):
        yield


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Collect the signals that ask for a stop, instead of ending at once."""
    asked: list[int] = []
    with _heard(lambda number, frame: asked.append(number)):
        yield asked


@contextmanager
def _heard(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler for the signals that ask for a stop, except those that nohup ignores."""
    from kdx.launch.stopping import SIGNALS

    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
