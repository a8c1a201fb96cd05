"""Evaluate the compact student of a run, or a .safetensors file, on a data set.

python tools/evaluate.py runs/<name> [key=value ...]
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from kdx.commands.shared import add_common, guarded
from kdx.recipe import allow
from kdx.util.words import counted


def main() -> None:
    """Parse, evaluate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("student", type=Path, help="a run directory or a .safetensors file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. data.root=/images")
    parser.add_argument("--recipe", type=Path, help="its recipe, where none lies beside it")
    parser.add_argument("--split", default="test", choices=("test", "validation", "train"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_common(parser)
    args = parser.parse_intermixed_args()
    allow(args.plugins)
    from kdx.commands.evaluate import assess, recipe_of

    recipe = recipe_of(
        args.student, args.recipe, args.overrides,
        plugins=args.plugins, output_root=args.output_root)  # fmt: skip
    result = assess(recipe, args.student, split=args.split)
    if args.json:
        print(json.dumps(asdict(result)))
        return
    images = counted(result.images, f"{result.split} image")
    print(f"{args.student}: {result.parameters:,} parameters, {images}")
    width = max(map(len, result.metrics))
    for name, value in result.metrics.items():
        shown = f"{value:.4f}" if name == "loss" else f"{value:.2%}"
        print(f"  {name:<{width}} {shown}")


if __name__ == "__main__":
    sys.exit(guarded(main))
