"""`kdx anchors`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["anchors", *sys.argv[1:]]))
