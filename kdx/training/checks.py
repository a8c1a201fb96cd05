"""What a job refuses before its first step, besides what its parts refuse themselves."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from kdx.data import Mixing, Views
from kdx.data.counter import generators_kept
from kdx.launch.memory import check_fits
from kdx.losses import SRRL
from kdx.losses.regression import Distance
from kdx.models.modes import as_it_was, eval_mode
from kdx.models.teacher import Teacher
from kdx.models.transforms import restore
from kdx.protocols import ImageSource, Located, Simulating, StudentTransform, Task
from kdx.recipe import Recipe
from kdx.tasks import Classification, Detection, MultiLabel, Regression
from kdx.tasks.detection import BoxSource
from kdx.tasks.multilabel import UNKNOWN
from kdx.training.objective import Objective
from kdx.util.copies import copied
from kdx.util.errors import reason
from kdx.util.words import counted

BUILT = (
    ". A constructor that names num_classes, in_channels or image_size gets those of the data set"
)


def mixing_of(recipe: Recipe, task: Task, labels: Tensor) -> Mixing | None:
    """Return how the recipe mixes images of `labels` [n]; ValueError for other targets."""
    section = recipe.data
    if not section.mixup and not section.cutmix:
        return None
    name = "data.mixup" if section.mixup else "data.cutmix"
    if not isinstance(task, Classification | MultiLabel | Regression):
        raise ValueError(f"{name}: needs images with one label each: remove it for this data set")
    if isinstance(task, Regression) and section.cutmix:
        share = "a number does not change by the share of the pixels that are pasted"
        raise ValueError(f"data.cutmix: not for regression: {share}: use data.mixup, or remove it")
    if len(labels) < 2:
        raise ValueError(f"{name}: needs two training images to mix, not {len(labels)}")
    unknown = UNKNOWN if isinstance(task, MultiLabel) else None
    evenly = labels if section.sampling == "balanced" else None
    return Mixing(section.mixup, section.cutmix, task.facts["num_classes"], unknown, evenly)


def check_augmentations(recipe: Recipe, task: Task, source: ImageSource) -> None:
    """Refuse a list of augmentations for a source that cannot say where its targets lie."""
    if recipe.data.augment.then and task.spatial and not isinstance(source, Located):
        lack = "a list of augmentations needs its methods `located` and `fitted`"
        raise ValueError(f"data.augment: {type(source).__name__} does not support it: {lack}")


def check_sampling(recipe: Recipe, task: Task) -> None:
    """Refuse balanced sampling for a task other than classification."""
    if recipe.data.sampling == "balanced" and not isinstance(task, Classification):
        raise ValueError(
            "data.sampling: balanced needs images with one label each: remove it for this data set"
        )


def check_objects(task: Task, source: ImageSource) -> None:
    """Refuse to train a detector on images without any object that counts."""
    if not isinstance(task, Detection) or not isinstance(source, BoxSource):
        return
    if not any(bool((rows[:, 5] <= 0).any()) for rows in source.boxes):
        difficult = sum(len(rows) for rows in source.boxes)
        only = f", except {counted(difficult, 'difficult one')}" if difficult else ""
        raise ValueError(
            f"data: no objects to learn: none of the {counted(len(source), 'training image')} has "
            f"a box{only}: check annotations and classes, or raise data.limit"
        )


def class_counts(task: Task, labels: Tensor) -> dict[str, Any]:
    """Return how many images are of each class [C], as a fact; nothing without one label each."""
    if not isinstance(task, Classification):
        return {}
    return {"class_counts": labels.bincount(minlength=task.facts["num_classes"]).tolist()}


def check_crop(recipe: Recipe, shape: tuple[int, int, int]) -> None:
    """Refuse padding after which crops may see nothing of an image of the shape (C, H, W)."""
    crop, (_, height, width) = recipe.data.augment.crop, shape
    if crop >= min(height, width):
        raise ValueError(
            f"data.augment.crop: {crop} pads images of {height} x {width} by {crop} pixels on each "
            "side, so that crops may see nothing of them: it is torchvision's `padding`, often 4"
        )


def check_batches(recipe: Recipe, views: Views, teachers: Iterable[Teacher]) -> None:
    """Refuse a batch that exceeds the memory, as it is padded, or as input of a network."""
    batch = min(recipe.data.batch_size, len(views))
    crop, (channels, height, width) = recipe.data.augment.crop, views.shape
    padded = batch * channels * (height + 2 * crop) * (width + 2 * crop)
    check_fits(padded, f"data.augment.crop: {batch:,} images padded by {crop} pixels")
    sides = recipe.data.augment.sizes
    largest = [(channels, max(sides), max(sides))] if sides else []
    for shape in (views.shape, *largest, *(teacher.own.shape for teacher in teachers)):
        text = f"data.batch_size: {batch:,} images of {' x '.join(map(str, shape))} at once"
        check_fits(4 * batch * prod(shape), text)


def check_average(recipe: Recipe, transforms: Sequence[StudentTransform]) -> None:
    """Refuse an average that starts after the run's last epoch, or of a student that simulates."""
    if recipe.average and any(isinstance(each, Simulating) for each in transforms):
        raise ValueError(
            "average: cannot be combined with a transform that trains for int8, as the average is "
            "in float: remove one of the two, or fork the averaged run with quantize.QAT"
        )
    epochs = sum(stage.epochs for stage in recipe.resolved_stages())
    if recipe.average and not recipe.average.follows(epochs - 1, epochs):
        run = f"the last epoch of a run of {counted(epochs, 'epoch')}"
        start = f"average.start: {recipe.average.start:g} is after {run}"
        raise ValueError(f"{start}: nothing would be averaged")


def lack_of_compact(student: nn.Module, transforms: Sequence[StudentTransform]) -> str:
    """Return why the student has no compact equivalent in its phase; empty if it has."""
    try:
        restore(copied(student), transforms)
    except Exception as error:  # the transform may be anybody's
        return reason(error)
    return ""


def _reads_raw(teacher: str, objectives: Sequence[Objective]) -> str:
    """Return the name of a loss that compares a teacher's logits as they are; empty if none."""
    for objective in objectives:
        for term in objective.terms:
            loss = term.loss
            raw = isinstance(loss, SRRL) or getattr(loss, "standardize", False)
            raw = raw or (isinstance(loss, Distance) and loss.to == "teacher")
            if raw and teacher in term.shares:
                return term.name
    return ""


def check_teachers_used(recipe: Recipe, task: Task, objectives: Sequence[Objective]) -> None:
    """Refuse teachers that no loss reads, and memos of images whose size or view changes."""
    read = {name for objective in objectives for name in objective.reads}
    for name, section in recipe.all_teachers.items():
        part = section.component
        if section.memo and recipe.data.augment.sizes:
            raise ValueError(
                f"{part.where}.memo: cannot be combined with data.augment.sizes, which changes the "
                "size of the images from step to step: remove one of the two"
            )
        if section.memo and section.memo.top and isinstance(task, MultiLabel | Regression):
            raise ValueError(
                f"{part.where}.memo.top: {section.memo.top} keeps the largest logits for a softmax "
                "over classes, which this task has not: leave it out"
            )
        if section.memo and section.memo.top and (loss := _reads_raw(name, objectives)):
            raise ValueError(
                f"{part.where}.memo.top: {section.memo.top} keeps what a softmax needs, and {loss} "
                "compares the logits themselves: leave it out"
            )
        several = "data.repeats" if recipe.data.repeats > 1 else "data.sampling: balanced"
        if (
            section.memo
            and section.memo.views > 1
            and (recipe.data.repeats > 1 or recipe.data.sampling == "balanced")
        ):
            raise ValueError(
                f"{part.where}.memo.views: {section.memo.views} cannot be combined with "
                f"{several}, several views of a sample in one batch: remove one of the two"
            )
        if name not in read:
            terms = [term for stage in recipe.resolved_stages() for term in stage.losses]
            uses = dict.fromkeys(term.component.use for term in terms)
            raise ValueError(
                f"{part.place}: {part.where}: no loss reads the teacher; the losses are "
                f"{', '.join(uses)}. Add one that learns from a teacher, such as kd, hint or pkt, "
                "or remove the teacher"
            )


@torch.no_grad()
def check_outputs(
    network: nn.Module, images: Tensor, task: Task, role: str, *, train: bool = False
) -> None:
    """Raise ValueError if `network` fails on images [B, C, H, W], or returns another shape.

    In eval mode, or in `train` mode: there some networks return the outputs of auxiliary heads,
    too, or losses. Buffers and random numbers stay as they are.
    """
    place = f"{role}: in train mode" if train else role
    remedy = "turn off what it adds in train mode, such as by `aux_logits: false`"
    also = f"; in eval mode it is right: {remedy}, or return the logits only" if train else ""
    mode = as_it_was(network) if train else eval_mode(network)
    try:
        with mode, generators_kept():
            output = network(images)
    except Exception as error:  # the network may be anybody's
        failed = f"forward failed on images of {list(images.shape[1:])}: {reason(error)}"
        raise ValueError(f"{place}: {failed}{also}{BUILT}") from error
    try:
        task.check(output, images)
    except ValueError as error:
        raise ValueError(f"{place}: {error}{also}{'' if train else BUILT}") from error
