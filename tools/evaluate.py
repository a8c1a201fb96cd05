"""`kdx evaluate`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
