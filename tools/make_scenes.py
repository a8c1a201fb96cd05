"""Write pictures to detect and segment on, made of Fashion-MNIST's items.

They lie there twice: in the layouts of Pascal VOC and of Cityscapes.

python tools/make_scenes.py data/scenes [--size 160] [--seed 0]
"""

import argparse
import shlex
import sys
from pathlib import Path

from kdx.commands.shared import guarded, terminal


def main() -> None:
    """Parse, write, say how to go on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("out", type=Path, help="the folder to write; `preview.png` in it shows some scenes")
    add("--images", type=int, default=2000, metavar="N", help="to train on (default: 2000)")
    add("--val-images", type=int, default=250, metavar="N", help="to choose by (default: 250)")
    add("--test-images", type=int, default=500, metavar="N", help="to report (default: 500)")
    add("--size", type=int, nargs="+", default=[160], metavar="N", help="side, or height and width")
    add("--objects", type=int, nargs=2, default=(1, 6), metavar="N", help="fewest and most a scene")
    add("--seed", type=int, default=0, help="the same seed gives the same scenes (default: 0)")
    add("--root", help="where Fashion-MNIST is (default: Debian's package, or data)")
    add("--overwrite", action="store_true", help="replace a set of scenes that is there")
    args = parser.parse_args()
    if len(args.size) > 2:
        parser.error("--size takes one number, or height and width")
    from kdx_lab.scenes import Plan, write_scenes

    plan = Plan(
        images=(args.images, args.val_images, args.test_images),
        size=(args.size[0], args.size[-1]),
        objects=tuple(args.objects),
        seed=args.seed,
    )
    console = terminal()
    write_scenes(args.out, plan, root=args.root, overwrite=args.overwrite, console=console)
    lines = [
        f"{args.out}: {sum(plan.images):,} scenes; look at {args.out / 'preview.png'}. To go on:"
    ]
    for recipe in ("yolo_lite", "unet"):
        command = f"accelerate launch tools/distill.py configs/scenes/{recipe}.yaml"
        lines.append(f"    {command} data.root={shlex.quote(str(args.out))}")
    console.out("\n".join(lines), highlight=False)


if __name__ == "__main__":
    sys.exit(guarded(main))
