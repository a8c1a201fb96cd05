"""The student's transforms: applied before training, restored after it, rehearsed in between."""

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kdx.models.certificate import Certificate, certify
from kdx.models.modes import eval_mode
from kdx.protocols import StudentTransform
from kdx.recipe import Recipe
from kdx.util.errors import reason

__all__ = ["apply_transforms", "check_kept", "rehearse_restoring", "restore"]


def apply_transforms(
    recipe: Recipe, student: nn.Module, image: tuple[int, int, int]
) -> tuple[nn.Module, list[StudentTransform]]:
    """Return the student to train, and the recipe's transforms, each applied to it in turn.

    `image` is the (C, H, W) that it will be trained on.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    batch = max(1, recipe.data.batch_size // recipe.accumulate // processes)
    transforms: list[StudentTransform] = []
    for part in recipe.student.transforms:
        transforms.append(part.build(input_shape=(batch, *image)))
        try:
            student = transforms[-1].apply(student)
        except Exception as error:  # the transform may be anybody's, and the memory too small
            raise ValueError(f"{part.place}: {part.where}: {reason(error)}") from error
    return student, transforms


def restore(student: nn.Module, transforms: Sequence[StudentTransform]) -> nn.Module:
    """Return the compact network: the transforms restored, the last one first."""
    for transform in reversed(transforms):
        student = transform.restore(student)
    return student


def rehearse_restoring(
    recipe: Recipe,
    compact: nn.Module,
    student: nn.Module,
    transforms: Sequence[StudentTransform],
    images: Tensor,
    decide: Callable[[Tensor], Tensor],
) -> Certificate:
    """Restore the untrained student as the end of the run will, and refuse what would fail then.

    Costs a moment before training, where finding out afterwards costs the training.
    """
    try:
        restored = restore(student, transforms)
    except ValueError as error:
        raise ValueError(f"student.transforms: after the last stage: {error}") from error
    _check_same_network(compact, restored)
    certificate = certify(
        student,
        lambda network: restore(network, transforms),
        [images],
        recipe.tolerance,
        decide=decide,
    )
    if certificate.problems:
        raise ValueError(f"student.transforms: {'; '.join(certificate.problems)}")
    return certificate


@torch.no_grad()
def check_kept(compact: nn.Module, student: nn.Module, images: Tensor) -> None:
    """Refuse transforms that lose the weights that the recipe starts the student from."""
    with eval_mode(compact), eval_mode(student):
        before, after = compact(images), student(images)
    if (after - before).abs().max() > 1e-3 * before.abs().max():
        raise ValueError(
            "student.transforms: they give the student another function than that of the weights "
            "it starts from, which would be lost: use `init: preserve` (expand.ExpandNet)"
        )


def _check_same_network(compact: nn.Module, restored: nn.Module) -> None:
    before = {k: tuple(v.shape) for k, v in compact.state_dict().items()}
    after = {k: tuple(v.shape) for k, v in restored.state_dict().items()}
    if list(before.items()) != list(after.items()):
        changed = sorted({k for k, _ in set(before.items()) ^ set(after.items())}) or "their order"
        raise ValueError(
            f"student.transforms: restored is another network than the student: {changed} differ"
        )
    classes = [type(m).__name__ for m in compact.modules()]
    if classes != [type(m).__name__ for m in restored.modules()]:
        raise ValueError("student.transforms: restored has other classes than the student")
