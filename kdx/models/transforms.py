"""The student's transforms: applied before training, restored after it, rehearsed in between."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdx.models.certificate import Certificate, certify
from kdx.models.modes import eval_mode
from kdx.protocols import Folding, Simulating, StudentTransform
from kdx.recipe import Component, Recipe
from kdx.util.copies import copied
from kdx.util.errors import reason


def apply(
    student: nn.Module,
    transforms: Sequence[StudentTransform | Component],
    input_shape: tuple[int, int, int, int],
) -> tuple[nn.Module, list[StudentTransform]]:
    """Return the student to train, and the transforms, each applied to it in turn.

        student, transforms = apply(smallnet(), [expand.ExpandNet(conv="cl")], (64, 3, 32, 32))
        ...
        compact = restore(student, transforms)

    Components of a recipe are built here; `input_shape` are the batches (B, C, H, W) that they
    are told the student will see. The student that is passed is not changed. Raises ValueError if
    a transform cannot be applied.
    """
    if transforms:
        copied(student)  # transforms copy, too, and this names the module that cannot be
    built: list[StudentTransform] = []
    for part in transforms:
        named = isinstance(part, Component)
        built.append(part.build(input_shape=input_shape) if named else part)
        try:
            student = built[-1].apply(student)
        except Exception as error:  # the transform may be anybody's, and the memory too small
            place = f"{part.place}: {part.where}" if named else type(part).__name__
            raise ValueError(f"{place}: {reason(error)}") from error
    return student, built


def products(student: nn.Module, transforms: Sequence[StudentTransform]) -> dict[str, Tensor]:
    """Return the parameters of the compact student that transforms compute, by name."""
    return {
        name: each
        for transform in transforms
        if isinstance(transform, Folding)
        for name, each in transform.products(student).items()
    }


def enter(student: nn.Module, transforms: Sequence[StudentTransform], phase: str | None) -> None:
    """Let the transforms that know a phase enter it, if it is not None; ValueError if none does.

    Also one that a transform raises in a phase that is among its `phases`.
    """
    refused = []
    for transform in transforms if phase else ():
        try:
            transform.enter(student, phase or "")
        except ValueError as error:
            if phase in getattr(transform, "phases", ()):
                raise
            refused.append(f"{error}")
    if refused and len(refused) == len(transforms):
        raise ValueError("; ".join(dict.fromkeys(refused)))


@contextmanager
def exact(student: nn.Module, transforms: Sequence[StudentTransform]) -> Iterator[None]:
    """Let the student compute what `restore`'s network does, also where it simulates a device."""
    with ExitStack() as stack:
        for transform in transforms:
            if isinstance(transform, Simulating):
                stack.enter_context(transform.exact(student))
        yield


def simulations(student: nn.Module, transforms: Sequence[StudentTransform]) -> dict[str, Any]:
    """Return what the exported file says of what the student simulates, by name; often empty."""
    found: dict[str, Any] = {}
    for transform in transforms:
        if isinstance(transform, Simulating):
            found |= transform.about(student)
    return found


def apply_transforms(
    recipe: Recipe, student: nn.Module, image: tuple[int, int, int], *, as_0_1: bool = False
) -> tuple[nn.Module, list[StudentTransform]]:
    """Apply a recipe's transforms, as `apply`; `image` is the (C, H, W) that is trained on.

    `as_0_1`: as kdx 0.1, where ExpandNet expanded kernels of 1 by default.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    batch = max(1, recipe.data.batch_size // recipe.accumulate // processes)
    transforms: list[Component] = [
        replace(part, arguments={"pointwise": "expand", **part.arguments})
        if as_0_1 and part.use == "expand.ExpandNet"
        else part
        for part in recipe.student.transforms
    ]
    return apply(student, transforms, (batch, *image))


def restore(student: nn.Module, transforms: Sequence[StudentTransform]) -> nn.Module:
    """Return the compact network, a new module: `transforms` restored, the last one first.

    In eval mode it computes what `student` does inside of `exact`. Raises ValueError if a transform
    has no compact equivalent in its current phase. Transforms get a copy: one that removes torch's
    parametrisations from a `deepcopy` would take them from `student`, too.
    """
    student = copied(student)
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
    *,
    fresh: nn.Module,
) -> Certificate:
    """Restore the untrained student as the end of the run will; raise ValueError if that fails.

    The weights are loaded into `fresh`, the compact network built once more. `student` has run in
    train mode, so that it keeps what it will keep after training, and a copy of it is disturbed:
    where a transform starts, a wrong `restore` is often right. Costs a moment before training,
    where finding out afterwards costs the training.
    """
    try:
        student = disturbed(student)
        restored = restore(copied(student), transforms)
    except Exception as error:  # the transform may be anybody's
        raise ValueError(f"student.transforms: after the last stage: {reason(error)}") from error
    _check_same_network(compact, restored)
    again = partial(restore, transforms=transforms)
    judge = partial(certify, student, again, [images], recipe.tolerance, decide=decide)
    fresh.load_state_dict(restored.state_dict())
    with exact(student, transforms):
        certificate = judge(exported=fresh)
        fits_itself = not certificate.problems or not judge().problems
    if certificate.problems and fits_itself:
        raise ValueError(
            "student: its state dict does not hold all that its outputs depend on: built again and "
            f"loaded, {certificate.problems[0]}. Keep it in parameters or persistent buffers, and "
            "set in the recipe what `pretrained` changes besides the weights"
        )
    if certificate.problems:
        raise ValueError(f"student.transforms: {'; '.join(certificate.problems)}")
    return certificate


@torch.no_grad()
def disturbed(student: nn.Module) -> nn.Module:
    """Return a copy whose trained parameters and BatchNorm statistics are about a tenth off."""
    student, generator = copied(student), torch.Generator().manual_seed(0)
    for parameter in student.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            size = parameter.square().mean().sqrt()
            parameter.data = parameter + noise * torch.where(size > 0, 0.1 * size, 0.01)
    for module in student.modules():
        if isinstance(module, _BatchNorm):
            for buffer in module.buffers(recurse=False):
                if buffer.is_floating_point():
                    buffer.mul_(1 + 0.1 * torch.rand(buffer.shape, generator=generator).to(buffer))
    return student


@torch.no_grad()
def check_kept(compact: nn.Module, student: nn.Module, images: Tensor) -> None:
    """Raise ValueError for transforms that lose the weights that the student starts from."""
    with eval_mode(compact), eval_mode(student):
        before, after = compact(images), student(images)
    if (after - before).abs().max() > 1e-3 * before.abs().max():
        lost = "the outputs differ from those of the weights that the student starts from"
        remedy = "which would be lost: set `init: preserve` (transforms of expand)"
        raise ValueError(f"student.transforms: {lost}, {remedy}")


def _check_same_network(compact: nn.Module, restored: nn.Module) -> None:
    before, after = (
        [(name, value.shape) for name, value in network.state_dict().items()]
        for network in (compact, restored)
    )
    if before != after:
        changed = sorted({name for name, _ in {*before} ^ {*after}}) or "the order"
        message = "the restored state dict does not match the student's"
        raise ValueError(f"student.transforms: {message}: {changed}")
    if [*map(type, compact.modules())] != [*map(type, restored.modules())]:
        raise ValueError("student.transforms: the restored module classes are not the student's")
