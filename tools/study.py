"""`kdx study`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["study", *sys.argv[1:]]))
