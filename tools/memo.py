"""Fill the memo of a recipe's teacher, ahead of the runs that use it.

accelerate launch tools/memo.py configs/<dataset>/<recipe>.yaml [key=value ...]
"""

import argparse
import sys

from kdx.commands.shared import add_common, guarded, terminal
from kdx.recipe import allow, load


def main() -> None:
    """Parse, then ask the teacher for all views."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a YAML recipe with `teacher.memo`")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. teacher.memo.views=5"
    )
    add_common(parser)
    args = parser.parse_intermixed_args()
    allow(args.plugins)
    recipe = load(args.recipe, args.overrides, plugins=args.plugins, output_root=args.output_root)
    from kdx.commands.fill import fill

    fill(recipe, terminal())


if __name__ == "__main__":
    sys.exit(guarded(main))
