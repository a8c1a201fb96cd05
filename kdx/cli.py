"""What the command lines share: arguments, and errors that a person can act on."""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from kdx.recipe import RecipeError

__all__ = ["add_common", "allow", "guarded"]

FAILED, REFUSED = 1, 2


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


def allow(plugins: Sequence[str]) -> None:
    """Make plug-ins in the current directory importable, last in the search order."""
    if plugins and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()


def guarded(main: Callable[[], None]) -> int:
    """Run a tool; return its exit code: 0, 1 for a job that failed, 2 for input refused.

    Errors that a person can act on are printed without a traceback; KDX_DEBUG=1 shows it.
    """
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (RecipeError, ValueError, OSError) as error:
        return _say(error, REFUSED)
    except Exception as error:
        from kdx.run import CertificateError

        if not isinstance(error, CertificateError):
            raise
        return _say(error, FAILED)
    return 0


def _say(error: Exception, code: int) -> int:
    if os.environ.get("KDX_DEBUG"):
        traceback.print_exc()
    text = str(error) if isinstance(error, RecipeError) else f"error: {error}"
    if int(os.environ.get("RANK", "0")) == 0:
        print(text, file=sys.stderr)
    return code
