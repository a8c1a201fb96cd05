"""Count parameters, MACs and memory of a recipe's networks, and measure their speed.

Of the compact network, and of the expanded one in training.

kdx complexity configs/<dataset>/<recipe>.yaml [key=value ...]
kdx complexity --network smallnet [kernel_size=7 transforms.0.preset=ck ...]
kdx complexity --paper        (Table 13 of the ExpandNets paper)
"""

import argparse
import json
import sys
from pathlib import Path

from kdx.commands.shared import add_common, positive, terminal
from kdx.recipe import allow
from kdx.util.files import write_whole

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx complexity`."""
    add = parser.add_argument
    add("what", nargs="*", metavar="RECIPE | key=value", help="a YAML recipe, and overrides")
    add("--network", metavar="NAME", help="a student network instead of a recipe")
    add("--paper", action="store_true", help="recompute Table 13 of the paper")
    add("--image", type=_image, metavar="CxHxW", help="image size, e.g. 3x224x224")
    add(
        "--classes", type=positive, metavar="N", help="with --image: count without opening the data"
    )
    add("--measure", action=argparse.BooleanOptionalAction, help="always or never measure speed")
    add("--rounds", type=positive, default=3, metavar="N", help="rounds of speed measurements (3)")
    add("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Count and print. Exit with code 1 if a figure differs from the paper's.

    Raises ValueError unless one of a recipe, --network and --paper is given; and as `named`.
    """
    if bool(args.what or args.network) == args.paper:
        raise ValueError("give a recipe, or --network NAME, or only --paper")
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


def _image(text: str) -> tuple[int, int, int]:
    """Return 3x32x64 as channels, height and width."""
    channels, height, width = map(positive, text.split("x"))
    return channels, height, width


_image.__name__ = "CxHxW"  # as argparse calls it in an error
