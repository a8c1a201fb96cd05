"""Make images for detection and segmentation from Fashion-MNIST's items; no download is needed.

kdx scenes data/scenes [--size 160] [--seed 0]

Writes the same scenes in the layouts of Pascal VOC and of Cityscapes.
"""

import argparse
import shlex
from pathlib import Path

from kdx.commands.shared import terminal
from kdx.util.printing import say

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx scenes`."""
    add = parser.add_argument
    add("out", type=Path, metavar="DIR", help="the folder to write; preview.png shows some scenes")
    add("--images", type=int, default=2000, metavar="N", help="training images (default 2000)")
    add("--val-images", type=int, default=250, metavar="N", help="validation images (default 250)")
    add("--test-images", type=int, default=500, metavar="N", help="test images (default 500)")
    add("--size", type=int, nargs="+", default=[160], metavar="N", help="side, or height and width")
    add("--objects", type=int, nargs=2, default=(1, 6), metavar="N", help="min and max per scene")
    add("--seed", type=int, default=0, help="the same seed gives the same scenes (default 0)")
    add("--root", metavar="DIR", help="where Fashion-MNIST is (default: Debian's package, or data)")
    add("--overwrite", action="store_true", help="replace an existing set of scenes")


def run(args: argparse.Namespace) -> None:
    """Write the scenes and print the commands that train on them; errors as `write_scenes`."""
    if len(args.size) > 2:
        raise ValueError("--size: give one number, or height and width")
    from kdx_lab.scenes import ScenePlan, write_scenes

    plan = ScenePlan(
        images=(args.images, args.val_images, args.test_images),
        size=(args.size[0], args.size[-1]),
        objects=tuple(args.objects),
        seed=args.seed,
    )
    console = terminal()
    write_scenes(args.out, plan, root=args.root, overwrite=args.overwrite, console=console)
    preview = args.out / "preview.png"
    lines = [f"{args.out}: {sum(plan.images):,} scenes; see {preview}. To train on them:"]
    for recipe in ("yolo_lite", "unet"):
        command = f"kdx distill configs/scenes/{recipe}.yaml"
        lines.append(f"    {command} data.root={shlex.quote(str(args.out))}")
    say(console, *lines)
