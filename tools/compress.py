"""Turn the checkpoint of an expanded student into the compact network.

python tools/compress.py runs/<name>/checkpoints/epoch_0030 [-o student.safetensors]
"""

import argparse
import sys
from pathlib import Path

from kdx.commands.shared import add_common, guarded
from kdx.recipe import allow


def main() -> None:
    """Parse, compress, print the certificate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="a directory in a run's checkpoints/")
    parser.add_argument("-o", "--output", type=Path, help="default: <run>/<checkpoint>.safetensors")
    parser.add_argument("--recipe", type=Path, help="its recipe, where none lies above it")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    add_common(parser)
    args = parser.parse_args()
    allow(args.plugins)
    from kdx.checkpoints import read
    from kdx.commands.compress import compress_checkpoint
    from kdx.commands.evaluate import recipe_of

    read(args.checkpoint)  # says which there are, where this is none
    recipe = recipe_of(
        args.checkpoint, args.recipe, plugins=args.plugins, output_root=args.output_root
    )
    run_dir = args.checkpoint.resolve().parent.parent
    output = args.output or run_dir / f"{args.checkpoint.resolve().name}.safetensors"
    if output.exists() and not args.overwrite:
        raise FileExistsError(f"{output} exists: name another file by -o, or pass --overwrite")
    certificate = compress_checkpoint(recipe, args.checkpoint, output)
    counts, errors = certificate.parameters, (certificate.float32, certificate.float64)
    print(
        f"{output}: {counts['compact']:,} parameters, from {counts['trained']:,}; differs by "
        f"{errors[0].max_rel_error:.1e} (float32), {errors[1].max_rel_error:.1e} (float64) "
        f"of the largest logit"
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
