"""What the command lines share: arguments, and errors that a person can act on."""

import argparse
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable

from rich.console import Console

from kdx.recipe import RecipeError
from kdx.util.errors import CertificateError, Stopped, StudyError, TrainingError
from kdx.util.words import printable

__all__ = ["add_common", "guarded", "terminal"]

FAILED, REFUSED, STOPPED = 1, 2, 3

_FROM_WORKER = re.compile(
    r"Caught (\w+) in DataLoader worker.*Original Traceback.*^(?:\w+\.)*\1: (.*)", re.S | re.M
)
"""What torch makes of a worker's error: its class, a traceback, and after it what it said."""


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every tool that reads a recipe."""
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="MODULE", dest="plugins",
        help="a module that recipes may take code from; also found in the current directory",
    )  # fmt: skip
    parser.add_argument(
        "--output-root",
        default="runs",
        metavar="DIR",
        help="where runs are written (default: runs)",
    )


def terminal() -> Console:
    """Return a console for a tool. A closed pipe does not end the run: it goes on unseen."""
    return _Terminal()


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Write nowhere from now on; rich would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def guarded(main: Callable[[], None]) -> int:
    """Run a tool; return its exit code: 0, 1 failed, 2 refused, 3 stopped by a signal.

    Training that is stopped leaves a checkpoint to go on from. A job fails by a loss that is no
    number, by a certificate, or for want of memory. Refused is what is wrong with a recipe, with
    data or weights, and files that cannot be read or written.

    Errors that a person can act on are printed without a traceback; KDX_DEBUG=1 shows it. Of
    several processes the first says what is wrong with a recipe as it is read, and each what it
    alone may see.
    """
    try:
        main()
        _leave()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (RecipeError, ValueError, OSError) as error:
        return _say(error, _reason(error), REFUSED)
    except Exception as error:
        from kdx.launch.processes import lost_peer

        if isinstance(error, Stopped):
            return _stopped(error)
        if _is_out_of_memory(error):
            return _say(error, "out of memory: lower data.batch_size", FAILED)
        if lost := lost_peer(error):
            return _say(error, lost, FAILED)
        if not isinstance(error, CertificateError | TrainingError | StudyError):
            raise
        return _say(error, str(error), FAILED)
    return 0


def _stopped(error: Exception) -> int:
    """Leave in order: a launcher that sees one process end signals the others."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if int(os.environ.get("RANK", "0")) == 0:
        resumes = " with --resume" if sys.argv[0].endswith("distill.py") else ""
        again = f"the same command{resumes} goes on"
        print(f"{error}; {again}", file=sys.stderr)
    _leave()
    return STOPPED


def _say(error: Exception, reason: str, code: int) -> int:
    if os.environ.get("KDX_DEBUG"):
        traceback.print_exc()
    rank = int(os.environ.get("RANK", "0"))
    of_recipe = isinstance(error, RecipeError)
    if rank == 0 or not of_recipe or _joined():
        said = reason if of_recipe else f"error: {reason}"
        print(printable(f"[rank {rank}] {said}" if rank else said), file=sys.stderr)
    return code


def _reason(error: Exception) -> str:
    """Return what the error says, of the system's the file first, of a worker's what it said."""
    worker = _FROM_WORKER.fullmatch(str(error))
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return worker[2].strip() if worker else str(error)


def _is_out_of_memory(error: Exception) -> bool:
    # By name: torch is not imported for the sake of an error.
    known = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return known or "DefaultCPUAllocator: can't allocate memory" in str(error)


def _leave() -> None:
    """Leave the other processes in order, where this one has joined any."""
    if _joined():
        from kdx.launch.processes import leave

        leave()


def _joined() -> bool:
    """Whether this process has joined others: from then on it may fail alone."""
    processes = sys.modules.get("kdx.launch.processes")  # loaded only by a tool that needed it
    return processes is not None and processes.joined()
