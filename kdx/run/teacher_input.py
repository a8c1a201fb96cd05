"""What a teacher is fed: how its images are normalised, and whether it would see better otherwise.

N: images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from kdx.models.class_order import per_class
from kdx.models.teacher import Teacher
from kdx.protocols import IGNORED, ImageSource, InputSpec
from kdx.training.runtime import Runtime

USUAL = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0.5": ((0.5,), (0.5,)),
    "none, pixels in [0, 1]": ((0.0,), (1.0,)),
    "none, pixels in [0, 255]": ((0.0,), (1 / 255,)),
}
"""Mean and std of each channel, or of all."""

MOST = 2048  # images on which they are tried
SURE = 2.0  # standard errors


def seen_by(teacher: Teacher) -> str:
    """Say what a teacher is fed: size, mean and std, and whose they are."""
    own = teacher.own
    return f"sees {own}, mean {_shown(own.mean)}, std {_shown(own.std)}: {teacher.whose}"


class Right:
    """The share of each image that is right: 0 or 1 for a class, of the pixels for a mask [N].

    Takes logits [B, C, ...] and classes [B, ...]; images of others are not `seen` [N].
    """

    def __init__(self, images: int, classes: int) -> None:
        self.classes, self.shares, self.seen = classes, torch.zeros(images), torch.zeros(images)

    def __call__(self, outputs: Tensor, targets: Tensor, indices: Tensor) -> None:
        """Take the outputs for samples `indices` [B]."""
        if not per_class(outputs, targets, self.classes):
            return
        counts = targets != IGNORED
        right = counts & (outputs.max(1).indices == targets)
        sums = (each.reshape(len(indices), -1).sum(1).cpu() for each in (right, counts))
        self.shares[indices] = next(sums) / next(sums).clamp(min=1)
        self.seen[indices] = 1

    def gather(self, runtime: Runtime) -> "Right":
        """Take the images of all processes; return self."""
        self.shares, self.seen = runtime.sum(torch.stack([self.shares, self.seen])).cpu()
        return self


def better_input(
    runtime: Runtime, teacher: Teacher, source: ImageSource, own: Right, place: str
) -> str | None:
    """Say which usual normalisation serves the teacher better than its own, if one does.

    Tried on at most 2,048 of the images; better by more than two standard errors of the paired
    differences. `own` is gathered. None for a teacher whose input is known from its weights, and
    for tasks without a class for each image or pixel.
    """
    if teacher.is_known or not own.seen.any():
        return None
    count = min(MOST, len(source))
    chosen = torch.arange(count) * len(source) // count
    images, before = source.subset(chosen), own.shares[chosen].double()
    best, note = SURE, None
    for name, spec in _others(teacher.own, teacher.given).items():
        right = Right(count, own.classes)
        runtime.evaluate(teacher.seeing(spec), images, [right])
        after = right.gather(runtime).shares.double()
        gain = after - before
        errors = float(gain.sum()) / sqrt(max(float(gain.square().sum()), 1e-12))
        if errors > best:
            best, note = errors, (
                f"{place}.input: normalised by {name}, {float(after.mean()):.2%} instead of "
                f"{float(before.mean()):.2%} is right on {count:,} images, {errors:.1f} standard "
                f"errors more. If it was trained so, set {place}.input: {{mean: "
                f"{list(spec.mean)}, std: {list(spec.std)}}}"
            )  # fmt: skip
    return note


def _others(own: InputSpec, data: InputSpec) -> Mapping[str, InputSpec]:
    """Return the usual inputs for as many channels by name, without the teacher's own."""
    named = {**USUAL, "the data's": (data.mean, data.std)}
    specs = {
        name: replace(own, mean=mean * repeat, std=std * repeat)
        for name, (mean, std) in named.items()
        for repeat in [own.channels // len(mean)]
        if len(mean) in (1, own.channels)
    }
    return {name: spec for name, spec in specs.items() if spec != own}


def _shown(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"
