"""Turn a checkpoint of an expanded student into the compact network.

kdx compress runs/<name>/checkpoints/epoch_0030 [-o student.safetensors]
"""

import argparse
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from kdx.commands.shared import add_common

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
    """Compress and print the certificate."""
    place = args.checkpoint.resolve()
    output = args.output or place.parent.parent / f"{place.name}.safetensors"
    options = {key: vars(args)[key] for key in ("overwrite", "plugins", "output_root")}
    certificate = compress(args.checkpoint, output, args.recipe, **options)
    counts = certificate.parameters
    print(
        f"{output}: {counts['compact']:,} parameters, from {counts['trained']:,}; differs by "
        f"{certificate.difference}"
    )


def compress(
    checkpoint: str | PathLike[str],
    output: str | PathLike[str],
    recipe: str | PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    plugins: Sequence[str] = (),
    output_root: str | PathLike[str] = "runs",
) -> "Certificate":
    """Write the compact student of a checkpoint to a .safetensors file; return its certificate.

    `recipe` as in `kdx.evaluate`. Needs no data: the checkpoint records its input, and the
    certificate compares on random images. Raises FileExistsError unless `overwrite`, and
    ValueError for another suffix, or if the checkpoint does not fit the recipe, has no compact
    equivalent (the nonlinear phase), or the certificate fails; nothing is written then.
    """
    import torch

    from kdx.launch.memory import at_once
    from kdx.models import weights
    from kdx.models.certificate import certify
    from kdx.models.transforms import exact, restore, simulations
    from kdx.training.opening import recipe_of
    from kdx.training.state import TrainState
    from kdx.util.copies import copied
    from kdx.util.files import move

    checkpoint, output = Path(checkpoint), Path(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"{output}: the compact student is written to a .safetensors file")
    state = TrainState.read(
        checkpoint
    )  # if it is not a checkpoint, the error lists those there are
    found = recipe_of(checkpoint, recipe, (), plugins, output_root)
    if output.exists() and not overwrite:
        raise FileExistsError(
            f"{output} exists: name another file (-o), or pass --overwrite (overwrite=True)"
        )
    about, spec = state.about()
    student, transforms = state.build_student(found)
    size = min(64, at_once(spec.shape))
    count = min(IMAGES, 8 * size)
    images = torch.randn(count, *spec.shape, generator=torch.Generator().manual_seed(0))
    output.parent.mkdir(parents=True, exist_ok=True)
    candidate = output.with_suffix(".uncertified.safetensors")
    try:
        compact = restore(copied(student), transforms)
        extra = about["extra"] | simulations(student, transforms)
        weights.save(compact, candidate, input=spec, classes=about["classes"], extra=extra)
        weights.load(exported := state.build_compact(found), candidate)
        with exact(student, transforms):
            certificate = certify(
                student,
                lambda network: restore(network, transforms),
                images.split(size),
                found.tolerance,
                exported=exported,
            )
        if certificate.problems:
            raise ValueError(f"{checkpoint}: {'; '.join(certificate.problems)}")
        move(candidate, output)
    finally:
        candidate.unlink(missing_ok=True)
    return certificate
