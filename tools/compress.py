"""`kdx compress`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["compress", *sys.argv[1:]]))
