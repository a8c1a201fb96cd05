"""`kdx scenes`."""

import argparse
import sys

from kdx.commands.shared import guarded
from kdx_lab.commands import scenes


def main() -> int:
    """Parse and run; return the exit code."""
    parser = argparse.ArgumentParser(
        description=scenes.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    scenes.add_arguments(parser)
    args = parser.parse_intermixed_args()
    return guarded(lambda: scenes.run(args))


if __name__ == "__main__":
    sys.exit(main())
