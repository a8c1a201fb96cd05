"""`kdx study`."""

import argparse
import sys

from kdx.commands.shared import guarded
from kdx_lab.commands import study


def main() -> int:
    """Parse and run; return the exit code."""
    parser = argparse.ArgumentParser(
        description=study.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    study.add_arguments(parser)
    args = parser.parse_intermixed_args()
    return guarded(lambda: study.run(args))


if __name__ == "__main__":
    sys.exit(main())
