"""`kdx analyze`."""

import argparse
import sys

from kdx.commands.shared import guarded
from kdx_lab.commands import analyze


def main() -> int:
    """Parse and run; return the exit code."""
    parser = argparse.ArgumentParser(
        description=analyze.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    analyze.add_arguments(parser)
    args = parser.parse_args()
    return guarded(lambda: analyze.run(args))


if __name__ == "__main__":
    sys.exit(main())
