"""`kdx complexity`."""

import argparse
import sys

from kdx.commands.shared import guarded
from kdx_lab.commands import complexity


def main() -> int:
    """Parse and run; return the exit code."""
    parser = argparse.ArgumentParser(
        description=complexity.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    complexity.add_arguments(parser)
    args = parser.parse_intermixed_args()
    return guarded(lambda: complexity.run(args))


if __name__ == "__main__":
    sys.exit(main())
