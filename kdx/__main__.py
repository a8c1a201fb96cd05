"""`python -m kdx`, and `accelerate launch -m kdx`: the same as the command `kdx`."""

import sys

from kdx.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
