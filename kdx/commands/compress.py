"""Make a compact student from a checkpoint."""

from pathlib import Path

import torch

from kdx.launch.memory import at_once
from kdx.models import weights
from kdx.models.certificate import Certificate, certify
from kdx.models.transforms import restore
from kdx.recipe import Recipe
from kdx.training.state import TrainState

__all__ = ["compress_checkpoint"]

IMAGES = 256  # random images on which a compressed checkpoint is compared


def compress_checkpoint(recipe: Recipe, checkpoint: Path, output: Path) -> Certificate:
    """Write the compact student of a checkpoint to the .safetensors file `output`.

    Needs no data: the checkpoint knows its input, and the certificate compares on random images.
    Raises ValueError for another suffix, where the checkpoint does not fit the recipe, has no
    compact equivalent (the nonlinear phase), or where the certificate fails; nothing is written
    then.
    """
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
