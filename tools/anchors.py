"""Find anchors for the boxes of a recipe's training images, by k-means.

python tools/anchors.py configs/<dataset>/<recipe>.yaml [--k 5] [key=value ...]
"""

import argparse
import sys

from kdx.commands.shared import add_common, guarded
from kdx.recipe import allow, load


def main() -> None:
    """Parse, cluster, print the line for the recipe's `data:`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a YAML recipe whose data set has boxes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. data.size=608")
    parser.add_argument("--k", type=int, default=5, help="how many anchors (default: 5)")
    parser.add_argument(
        "--stride", type=int, default=32, help="pixels of a cell of the grid (default: 32)"
    )
    add_common(parser)
    args = parser.parse_intermixed_args()
    allow(args.plugins)
    recipe = load(args.recipe, args.overrides, plugins=args.plugins, output_root=args.output_root)
    from kdx.commands.anchors import propose

    print(propose(recipe, k=args.k, stride=args.stride))


if __name__ == "__main__":
    sys.exit(guarded(main))
