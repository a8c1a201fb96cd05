"""`kdx complexity`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["complexity", *sys.argv[1:]]))
