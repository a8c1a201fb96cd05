"""From a recipe to everything that a run needs, checked before the first step is taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kdx import weights
from kdx.certificate import Certificate, certify
from kdx.data import Augment, Splits, Views, split
from kdx.evaluation import eval_mode
from kdx.objective import Objective, Term
from kdx.protocols import ImageData, InputSpec, StudentTransform
from kdx.recipe import Recipe, Stage
from kdx.schedules import Schedule
from kdx.teacher import Teacher

__all__ = [
    "Job",
    "StageJob",
    "build",
    "build_data",
    "build_student",
    "facts",
    "has_weights",
    "restore",
]

PROBE = 8  # samples in the batch that sizes adaptors and finds module paths


@dataclass(frozen=True)
class StageJob:
    """A stage, ready to run. `unused` names the parameters that its losses do not reach."""

    stage: Stage
    objective: Objective
    schedule: Schedule
    unused: Sequence[str]


@dataclass(frozen=True)
class Job:
    """Everything that a run needs.

    `student` has the transforms applied; `compact` is the network as it ships, untrained.
    """

    recipe: Recipe
    data: ImageData
    splits: Splits
    compact: nn.Module
    student: nn.Module
    transforms: Sequence[StudentTransform]
    teacher: Teacher | None
    stages: Sequence[StageJob]
    rehearsal: Certificate

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.data.classes)

    @property
    def train_views(self) -> Views:
        """The training images, augmented."""
        return train_views(self.recipe, self.data, self.splits)

    def enter(self, phase: str | None) -> None:
        """Let the transforms enter a phase; None leaves them as they are."""
        for transform in self.transforms if phase else ():
            transform.enter(self.student, phase or "")


def build(recipe: Recipe, *, teacher_weights: bool = True) -> Job:
    """Build data, student, teacher and objectives, and probe them on a batch.

    With `teacher_weights` false the teacher keeps random weights, for a dry run. Raises
    ValueError for what does not fit: module paths, shapes, class counts, a transform that does
    not come back to the compact network.
    """
    torch.manual_seed(recipe.seed)
    data, splits = build_data(recipe)
    compact = build_student(recipe, data)
    transforms: list[StudentTransform] = [part.build() for part in recipe.student.transforms]
    student = compact
    for transform, part in zip(transforms, recipe.student.transforms, strict=True):
        try:
            student = transform.apply(student)
        except ValueError as error:
            raise ValueError(f"{part.place}: {part.where}: {error}") from error
    teacher = _build_teacher(recipe, data, load=teacher_weights) if recipe.teacher else None
    views = train_views(recipe, data, splits)
    images, labels, _ = views.__getitems__([(0, i) for i in range(min(PROBE, len(views)))])
    _check_logits(student, images, len(data.classes), "student")
    if teacher:
        _check_logits(teacher.module, teacher.see(images), len(data.classes), "teacher")
    stages = [
        _build_stage(stage, student, transforms, teacher, images, labels)
        for stage in recipe.resolved_stages()
    ]
    if teacher:
        teacher.settle(images)
    rehearsal = _rehearse(recipe, compact, student, transforms, images)
    return Job(recipe, data, splits, compact, student, transforms, teacher, stages, rehearsal)


def build_data(recipe: Recipe) -> tuple[ImageData, Splits]:
    """Open the data set and split it as the recipe says."""
    section = recipe.data
    data: ImageData = section.component.build()
    return data, split(data, validation=section.validation, limit=section.limit, seed=recipe.seed)


def build_student(recipe: Recipe, data: ImageData) -> nn.Module:
    """Build the compact network, with the weights that the recipe starts it from."""
    section = recipe.student
    student = section.component.build(**facts(len(data.classes), data.input))
    if section.weights:
        weights.load(student, section.weights)
    return student


def restore(student: nn.Module, transforms: Sequence[StudentTransform]) -> nn.Module:
    """Return the compact network: the transforms restored, the last one first."""
    for transform in reversed(transforms):
        student = transform.restore(student)
    return student


def train_views(recipe: Recipe, data: ImageData, splits: Splits) -> Views:
    """The training images, augmented as the recipe says."""
    augment = Augment(**recipe.data.augment.model_dump())
    return Views(splits.train, data.input, seed=recipe.seed, augment=augment)


def has_weights(path: str | None) -> bool:
    """Whether the weights of a teacher are there: a file, or a finished run."""
    if path is None:
        return True
    place = Path(path)
    return place.is_file() or (place / "student.safetensors").is_file()


def _build_teacher(recipe: Recipe, data: ImageData, *, load: bool) -> Teacher:
    section = recipe.teacher
    assert section is not None
    pretrained = bool(section.component.arguments.get("pretrained"))
    spec = weights.read_spec(section.weights) if section.weights and load else None
    known = facts(len(data.classes), spec or data.input)
    if pretrained:
        del known["in_channels"], known["image_size"]  # those of the published weights
    module: nn.Module = section.component.build(**known)
    if section.weights and load:
        weights.load(module, section.weights)
    own = spec or (_published(module) if pretrained else None) or data.input
    if section.input:
        changes = {k: v for k, v in section.input.model_dump().items() if v is not None}
        mean, std = changes.get("mean", own.mean), changes.get("std", own.std)
        own = InputSpec(len(mean), changes.get("size", own.size), tuple(mean), tuple(std))
    return Teacher(module, own=own, given=data.input)


def _published(module: nn.Module) -> InputSpec | None:
    """The input of published weights, as timm's `pretrained_cfg` says it."""
    config = getattr(module, "pretrained_cfg", None)
    if config is None:
        return None
    channels, size, _ = config["input_size"]
    return InputSpec(channels, size, tuple(config["mean"]), tuple(config["std"]))


def facts(classes: int, input: InputSpec) -> dict[str, int]:
    """Return what a network factory may ask to know of its data."""
    return {"num_classes": classes, "in_channels": input.channels, "image_size": input.size}


def _build_stage(
    stage: Stage,
    student: nn.Module,
    transforms: Sequence[StudentTransform],
    teacher: Teacher | None,
    images: Tensor,
    labels: Tensor,
) -> StageJob:
    for transform in transforms if stage.phase else ():
        transform.enter(student, stage.phase or "")
    terms = []
    for section in stage.losses:
        part = section.component
        terms.append(
            Term(section.name, section.weight, part.build(), f"{part.place}: {part.where}")
        )
    objective = Objective(student, terms)
    objective.probe(images, labels, teacher)
    unused = objective.unused(images, labels, teacher(images) if teacher else None)
    objective.detach()
    return StageJob(stage, objective, stage.schedule.build(), unused)


@torch.no_grad()
def _check_logits(network: nn.Module, images: Tensor, classes: int, role: str) -> None:
    try:
        with eval_mode(network):
            logits = network(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        shape = list(images.shape[1:])
        raise ValueError(f"{role}: it cannot take images of {shape}: {error}") from error
    if not isinstance(logits, Tensor) or logits.shape != (len(images), classes):
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"{role}: it answers {len(images)} images with {got}, not with logits "
            f"[{len(images)}, {classes}] for the data's {classes} classes"
        )


def _rehearse(
    recipe: Recipe,
    compact: nn.Module,
    student: nn.Module,
    transforms: Sequence[StudentTransform],
    images: Tensor,
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
        student, lambda network: restore(network, transforms), [images], recipe.tolerance
    )
    if certificate.problems:
        raise ValueError(f"student.transforms: {'; '.join(certificate.problems)}")
    return certificate


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
