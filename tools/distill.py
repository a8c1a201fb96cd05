"""`kdx distill`, for `accelerate launch tools/distill.py`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["distill", *sys.argv[1:]]))
