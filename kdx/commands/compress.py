"""Turn a checkpoint of an expanded student into the compact network.

kdx compress runs/<name>/checkpoints/epoch_0030 [-o student.safetensors]
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kdx.commands.evaluate import recipe_of
from kdx.commands.shared import add_common
from kdx.recipe import Recipe, allow

if TYPE_CHECKING:  # it imports torch
    from kdx.models.certificate import Certificate

IMAGES = 256  # random images on which a compressed checkpoint is compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx compress`."""
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="a directory in a run's checkpoints/")
    add("-o", "--output", type=Path, help="default: <run>/<checkpoint>.safetensors")
    add("--recipe", type=Path, help="the recipe (default: the recipe.yaml of the run)")
    add("--overwrite", action="store_true", help="replace an existing file")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Compress and print the certificate; FileExistsError for a file that may not be replaced."""
    allow(args.plugins)
    from kdx.checkpoints import read

    read(args.checkpoint)  # if it is not a checkpoint, the error lists those there are
    places = {"plugins": args.plugins, "output_root": args.output_root}
    recipe = recipe_of(args.checkpoint, args.recipe, **places)
    checkpoint = args.checkpoint.resolve()
    output = args.output or checkpoint.parent.parent / f"{checkpoint.name}.safetensors"
    if output.exists() and not args.overwrite:
        raise FileExistsError(f"{output} exists: name another file with -o, or pass --overwrite")
    certificate = compress_checkpoint(recipe, args.checkpoint, output)
    counts, errors = certificate.parameters, (certificate.float32, certificate.float64)
    print(
        f"{output}: {counts['compact']:,} parameters, from {counts['trained']:,}; differs by "
        f"{errors[0].max_rel_error:.1e} (float32), {errors[1].max_rel_error:.1e} (float64) "
        f"of the largest logit"
    )


def compress_checkpoint(recipe: Recipe, checkpoint: Path, output: Path) -> "Certificate":
    """Write the compact student of a checkpoint to the .safetensors file `output`.

    Needs no data: the checkpoint records its input, and the certificate compares on random images.
    Raises ValueError, and writes nothing, for another suffix, or if the checkpoint does not fit
    the recipe, has no compact equivalent (the nonlinear phase), or the certificate fails.
    """
    import torch

    from kdx.launch.memory import at_once
    from kdx.models import weights
    from kdx.models.certificate import certify
    from kdx.models.transforms import restore
    from kdx.training.state import TrainState

    if output.suffix != ".safetensors":
        raise ValueError(f"{output}: the compact student is written to a .safetensors file")
    state = TrainState.read(checkpoint)
    about, spec = state.about()
    student, transforms = state.build_student(recipe)
    size = min(64, at_once(spec.shape))
    count = min(IMAGES, 8 * size)
    images = torch.randn(count, *spec.shape, generator=torch.Generator().manual_seed(0))
    certificate = certify(
        student,
        lambda network: restore(network, transforms),
        images.split(size),
        recipe.tolerance,
    )
    if certificate.problems:
        raise ValueError(f"{checkpoint}: {'; '.join(certificate.problems)}")
    compact = restore(student, transforms)
    output.parent.mkdir(parents=True, exist_ok=True)
    weights.save(compact, output, input=spec, classes=about["classes"], extra=about["extra"])
    return certificate
