"""Train a small network on 100 labelled digits, with and without kdx: what `make demo` runs.

The study configs/studies/digits/demo.yaml: five ways to train, five seeds, about three minutes on
two cores. Everything in it was fixed and committed before any of its runs.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kdx.commands.shared import guarded, terminal
from kdx.util.printing import say
from kdx_lab.study.grid import open_study

if TYPE_CHECKING:
    from kdx_lab.study.rows import Outcome

STUDY = Path(__file__).resolve().parent.parent / "configs" / "studies" / "digits" / "demo.yaml"


def main() -> None:
    """Run what is not finished of the study; print its table and what it means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-root", default="runs/demo", metavar="DIR")
    root = parser.parse_args().output_root
    grid = open_study(STUDY, output_root=root)
    console = terminal()
    with console.status("importing torch"):
        from kdx_lab.executors.local import Local
        from kdx_lab.study.collecting import collect
        from kdx_lab.study.conduct import conduct
    conduct(grid, console, Local(), command="make demo")
    results = collect(grid.cells, baseline=grid.study.baseline)
    run = next(cell.run_dir for cell in grid.cells if cell.arm == "ck+kd")
    lines = [
        *(finding(row.arm, row.outcome) for row in results.rows if row.arm != results.baseline),
        "All arms ship the same plain network. `no labels` also sees the other 1,337 images.",
        "",
        f"a student     {run / 'student.safetensors'}",
        f"in Python     kdx.load_student({str(run)!r})",
        f"train again   rm -r {root}; make demo",
    ]
    say(console, *lines)


def finding(arm: str, outcome: "Outcome | None") -> str:
    """Return what the seeds say of an arm against the baseline: better, worse or not clear."""
    found = outcome and outcome.difference
    if not outcome or not found or found.low is None or found.high is None:
        return f"{arm}: too few finished runs to compare"
    clear = "better" if found.low > 0 else "worse" if found.high < 0 else "no clear difference"
    cost = f", {outcome.cost.ratio:.1f} x the training time" if outcome.cost.ratio else ""
    return f"{arm}: {clear} ({100 * found.mean:+.1f} points, n = {len(found.values)}){cost}"


if __name__ == "__main__":
    sys.exit(guarded(main))
