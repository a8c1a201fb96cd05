"""`kdx analyze`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["analyze", *sys.argv[1:]]))
