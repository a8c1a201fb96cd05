"""`python -m kdx distill ...`."""

import runpy
import sys
from pathlib import Path

del sys.argv[1]
runpy.run_path(str(Path(__file__).parents[1] / "tools/distill.py"), run_name="__main__")
