"""Run a study: recipes in variants and seeds, and a table of what they say together.

python tools/study.py configs/studies/<dataset>/<study>.yaml [key=value ...]
"""

import argparse
import shlex
import sys

from kdx.commands.shared import add_common, guarded, terminal
from kdx.recipe import allow


def main() -> None:
    """Parse, then run what is not finished, or only report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="a YAML study")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. seeds=[7] overrides.epochs=30"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once (default 1)")
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    parser.add_argument("--dry-run", action="store_true", help="list the runs")
    add_common(parser)
    args = parser.parse_intermixed_args()
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: at least one")
    allow(args.plugins)
    from kdx_lab.study.grid import open_study

    typed = [text for text in sys.argv[1:] if text != "--report"]
    command = shlex.join(["python", "tools/study.py", *typed])
    options = {"plugins": args.plugins, "output_root": args.output_root}
    grid = open_study(args.study, args.overrides, **options)
    console = terminal()
    if args.dry_run:
        from kdx_lab.study.planned import show

        show(grid, console)
        return
    with console.status("importing torch"):
        from kdx_lab.study.conduct import conduct, report
        from kdx_lab.study.workers import Request, gpus
    if args.report:
        report(grid, console, command=command)
        return
    request = Request(args.study, args.overrides, **options, gpus=gpus())
    conduct(grid, request, console, jobs=args.jobs, command=command)


if __name__ == "__main__":
    sys.exit(guarded(main))
