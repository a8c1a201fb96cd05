"""Train a compact network by a recipe.

accelerate launch tools/distill.py configs/<dataset>/<recipe>.yaml [key=value ...]
"""

import argparse
import sys
from pathlib import Path

from kdx.commands.shared import add_common, guarded, terminal
from kdx.recipe import allow, load


def main() -> None:
    """Parse, then run the recipe or try it dry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a YAML recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. epochs=30")
    parser.add_argument("--dry-run", action="store_true", help="build all, print the plan and cost")
    parser.add_argument("--overwrite", action="store_true", help="replace a run of the same name")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run of the same name, if there is one"
    )
    parser.add_argument(
        "--fork", type=Path, metavar="CHECKPOINT", help="start from the student of another run"
    )
    add_common(parser)
    args = parser.parse_intermixed_args()
    if args.resume and args.overwrite:
        parser.error("--resume goes on with a run, --overwrite replaces it: choose one")
    allow(args.plugins)
    recipe = load(args.recipe, args.overrides, plugins=args.plugins, output_root=args.output_root)
    if args.dry_run:
        from kdx.commands.dry_run import dry_run

        dry_run(recipe, terminal())
    else:
        from kdx.run.run import run

        run(recipe, terminal(), overwrite=args.overwrite, resume=args.resume, fork=args.fork)


if __name__ == "__main__":
    sys.exit(guarded(main))
