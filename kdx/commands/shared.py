"""What the commands share: arguments, and errors that end a command without a traceback."""

import argparse
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from rich.console import Console

from kdx.recipe import Recipe, RecipeError, allow, load
from kdx.recipe.shipped import shipped
from kdx.util.errors import CertificateError, Stopped, StudyError, TrainingError, reason
from kdx.util.printing import escape_unencodable
from kdx.util.words import printable

FAILED, REFUSED, STOPPED = 1, 2, 3

_FROM_WORKER = re.compile(
    r"Caught (\w+) in DataLoader worker.*Original Traceback.*^(?:\w+\.)*\1: (.*)", re.S | re.M
)
"""How torch reports a worker's error: its class, a traceback, and after it the message."""


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Add --plugin, for what `kdx.recipe.allow` takes."""
    where = "a module that recipes may name in `use:`, installed or in the current directory"
    add = parser.add_argument
    add("--plugin", action="append", default=[], metavar="MODULE", dest="plugins", help=where)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that reads a recipe."""
    add_plugins(parser)
    where = "where runs are written (default: runs)"
    parser.add_argument("--output-root", default="runs", metavar="DIR", help=where)


def add_recipe(parser: argparse.ArgumentParser, *, example: str = "epochs=30") -> None:
    """Add a recipe, its overrides, and the common options: what `load_recipe` reads."""
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"e.g. {example}")
    add_common(parser)


def load_recipe(args: argparse.Namespace) -> Recipe:
    """Return the recipe that the arguments of `add_recipe` name; RecipeError if it is wrong.

    ValueError, with its path, for the bare name of a shipped recipe.
    """
    allow(args.plugins)
    if not Path(args.recipe).exists():
        name = Path(args.recipe).with_suffix("").as_posix().removeprefix("configs/")
        if (path := shipped().get(name)) and not name.startswith("studies/"):
            raise ValueError(
                f"{args.recipe}: no such file; a shipped recipe has that name: name "
                f"its file, {path}, or copy it: kdx recipes copy {name}"
            )
    return load(args.recipe, args.overrides, plugins=args.plugins, output_root=args.output_root)


def positive(text: str) -> int:
    """Return an integer of 1 or more; ArgumentTypeError for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of 1 or more")
    return int(text)


def terminal() -> Console:
    """Return a console for a command; a closed pipe silences it but does not end the run."""
    return _Terminal(highlight=False, markup=False, emoji=False)


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Discard further output; rich would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def guarded(main: Callable[[], None], *, resumes: bool = False, has_batches: bool = False) -> int:
    """Run a command; return its exit code: 0, 1 failed, 2 refused, 3 stopped by a signal.

    `resumes` says that the command has --resume, to continue what was stopped. Failed: training
    diverged, the certificate does not hold, or memory ran out. Refused: mistakes in recipes, data
    or weights, and files that cannot be read or written.

    Errors that the user can fix are printed without a traceback; KDX_DEBUG=1 shows it. Before
    the processes of a run join, only rank 0 prints what is wrong with a recipe.
    """
    escape_unencodable()
    try:
        main()
        _leave()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (RecipeError, ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _is_closed(sys.stdout):  # `kdx list | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        return _print(error, _reason(error), REFUSED)
    except Exception as error:
        from kdx.launch.processes import lost_peer

        if isinstance(error, Stopped):
            # In order: a launcher that sees one process end signals the others.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if _rank() == 0:
                again = "run the same command"
                if resumes and not error.of_teacher:
                    instead = " instead of --overwrite" if "--overwrite" in sys.argv else ""
                    again += f" with --resume{instead}"
                print(f"{error}; to continue, {again}", file=sys.stderr)
            _leave()
            return STOPPED
        # By name, so that torch need not be imported.
        known = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
        if known or "DefaultCPUAllocator: can't allocate memory" in str(error):
            said = reason(error) if str(error) else "out of memory"
            return _print(error, said + "; lower data.batch_size" * has_batches, FAILED)
        if lost := lost_peer(error):
            return _print(error, lost, FAILED)
        if not isinstance(error, CertificateError | TrainingError | StudyError):
            raise
        return _print(error, str(error), FAILED)
    return 0


def _is_closed(stream: TextIO) -> bool:
    """Whether nobody reads a stream any more."""
    try:
        stream.flush()
    except BrokenPipeError:
        return True
    return False


def _print(error: Exception, said: str, code: int) -> int:
    if os.environ.get("KDX_DEBUG"):
        traceback.print_exc()
    rank, of_recipe = _rank(), isinstance(error, RecipeError)
    if rank == 0 or not of_recipe or _joined():
        text = said if of_recipe else f"error: {said}"
        print(printable(f"[rank {rank}] {text}" if rank else text), file=sys.stderr)
    return code


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _reason(error: Exception) -> str:
    """Return the message: the file first if the system refused it, a worker's without its trace."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    worker = _FROM_WORKER.fullmatch(str(error))
    return worker[2].strip() if worker else str(error)


def _leave() -> None:
    """Leave the other processes in order, if this one has joined any."""
    if _joined():
        from kdx.launch.processes import leave

        leave()


def _joined() -> bool:
    """Whether this process has joined others: from then on any one of them may fail."""
    processes = sys.modules.get("kdx.launch.processes")  # loaded only by a command that needed it
    return processes is not None and processes.joined()
