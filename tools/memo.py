"""`kdx memo`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["memo", *sys.argv[1:]]))
