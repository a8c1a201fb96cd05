"""`kdx scenes`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["scenes", *sys.argv[1:]]))
