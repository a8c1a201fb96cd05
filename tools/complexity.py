"""What a recipe's networks cost, while they train and compressed; Table 13 of the paper.

python tools/complexity.py configs/<dataset>/<recipe>.yaml [key=value ...]
python tools/complexity.py --network smallnet [kernel_size=7 transforms.0.preset=ck ...]
python tools/complexity.py --paper
"""

import argparse
import json
import sys
from pathlib import Path

from kdx.commands.shared import add_common, guarded, terminal
from kdx.recipe import allow
from kdx.util.files import write_whole


def main() -> None:
    """Parse, count, print; exit code 1 where a figure is not the paper's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help="a YAML recipe; overrides, key=value")
    parser.add_argument("--network", metavar="NAME", help="a student instead, and its key=value")
    parser.add_argument("--paper", action="store_true", help="build the paper's Table 13 again")
    parser.add_argument("--image", type=image, metavar="CxHxW", help="3x224x224, say, and")
    parser.add_argument("--classes", type=int, metavar="N", help="10, say: the data stay closed")
    parser.add_argument("--measure", action=argparse.BooleanOptionalAction, help="speeds, or none")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of measuring speeds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    add_common(parser)
    args = parser.parse_intermixed_args()
    if bool(args.what or args.network) == args.paper:
        parser.error("name a recipe, or a network by --network, or pass --paper alone")
    allow(args.plugins)
    from kdx_lab.complexity.one import examine
    from kdx_lab.complexity.paper import rebuild
    from kdx_lab.complexity.variants import named

    if args.paper:
        result = rebuild(terminal(), rounds=args.rounds, measure=bool(args.measure))
    else:
        name, variants = named(
            args.network, args.what, image=args.image, classes=args.classes,
            plugins=args.plugins, output_root=args.output_root)  # fmt: skip
        result = examine(name, variants, terminal(), rounds=args.rounds, measure=args.measure)
    if args.json:
        write_whole(args.json, json.dumps(result, indent=1) + "\n")
    if result.get("differences"):
        sys.exit(1)


def image(text: str) -> tuple[int, int, int]:
    """Return 3x32x64 as channels, height and width."""
    channels, height, width = map(int, text.split("x"))
    return channels, height, width


if __name__ == "__main__":
    sys.exit(guarded(main))
