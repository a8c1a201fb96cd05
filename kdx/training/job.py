"""From a recipe to everything that a run needs, checked before the first step."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kdx.data import Splits, Views, check_data, corrupt_labels, label_shares, preparation, split
from kdx.data.counter import seed_python_and_numpy
from kdx.launch.memory import at_once, limited
from kdx.models.certificate import Certificate
from kdx.models.networks import build_student, build_teacher, empty_student, facts
from kdx.models.teacher import Teacher
from kdx.models.transforms import (
    apply_transforms,
    check_kept,
    enter,
    products,
    rehearse_restoring,
)
from kdx.protocols import ImageData, ImageSource, InputSpec, StudentTransform, Task
from kdx.recipe import Recipe
from kdx.recipe.arguments import parameters_of
from kdx.recipe.errors import each_of
from kdx.tasks import MultiLabel, task_of
from kdx.training.checks import (
    check_augmentations,
    check_average,
    check_batches,
    check_crop,
    check_objects,
    check_outputs,
    check_sampling,
    check_teachers_used,
    class_counts,
    mixing_of,
)
from kdx.training.stage_jobs import StageBuilder, StageJob
from kdx.util.copies import copied

PROBE = 8  # samples in the batch that sizes adaptors and finds module paths


@dataclass(frozen=True)
class Job:
    """Everything that a run needs.

    `train_views` are augmented. `student` has the transforms applied; `compact` is the network as
    exported, untrained. `rehearsal` is the certificate of the student before training. `notes` are
    lines on the weight files.
    """

    recipe: Recipe
    data: ImageData
    splits: Splits
    train_views: Views
    compact: nn.Module
    student: nn.Module
    transforms: Sequence[StudentTransform]
    teachers: Mapping[str, Teacher]
    stages: Sequence[StageJob]
    rehearsal: Certificate
    notes: Sequence[str] = ()

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.data.classes)

    @property
    def task(self) -> Task:
        """The task of the networks."""
        return task_of(self.data)

    @property
    def about(self) -> dict[str, Any]:
        """The metadata of the student's weights, besides its input."""
        student = self.recipe.student.component
        return {
            "use": student.use,
            "arguments": dict(student.arguments),
            "class_names": list(self.data.classes),
            "facts": dict(self.task.facts),
            "preprocessing": preparation(self.splits.test, self.data.input),
        }

    def products(self) -> dict[str, Tensor]:
        """Return the parameters of the compact student that transforms compute, by name."""
        return products(self.student, self.transforms)

    def enter(self, phase: str | None) -> None:
        """Let the transforms enter a phase, unless it is None."""
        enter(self.student, self.transforms, phase)


@limited()
def build(
    recipe: Recipe,
    *,
    teacher_weights: bool | Collection[str] = True,
    student_weights: bool = True,
    load_compact: Callable[[nn.Module], object] | None = None,
) -> Job:
    """Build data, student, teacher and objectives, and probe them on a batch.

    With `teacher_weights` false teachers keep random weights, or all but those named, for a dry
    run; with `student_weights` false the student does, for a resume, which has its own.
    `load_compact` is called with the student before its transforms, to load other weights than the
    recipe's.
    Raises ValueError for what does not fit: module paths, shapes, class counts, a transform that
    does not restore the compact network or does not keep the weights that the student starts from.
    """
    torch.manual_seed(recipe.seed)  # for initialisation, dropout and plug-ins
    seed_python_and_numpy(recipe.seed)
    data, splits = build_data(recipe)
    task, known = task_of(data), facts(task_of(data).facts, data.input)
    shape = (data.input.channels, *splits.train.view_size(data.input, recipe.data.augment))
    notes: list[str] = []
    loaded = recipe.all_teachers if teacher_weights is True else teacher_weights or ()
    compact: nn.Module | None = None

    def made_student() -> tuple[nn.Module, list[StudentTransform]]:
        nonlocal compact
        student = build_student(recipe, data, notes.append, load=student_weights)
        if lazy := [name for name, value in student.named_parameters() if is_lazy(value)]:
            sizes = "give its module the sizes: lazy modules are not supported"
            raise ValueError(f"student: {lazy[0]} has no shape yet: {sizes}")
        if load_compact:
            load_compact(student)
        compact = student
        return apply_transforms(recipe, compact, shape)

    def made_teacher(name: str) -> Teacher | None:
        section = recipe.all_teachers[name]
        if compact is None and "student_network" in parameters_of(section.component.factory)[0]:
            return None  # made of the student, whose own problem is told
        return build_teacher(section, data, compact, load=name in loaded, note=notes.append)

    makers: list[Callable[[], Any]] = [
        partial(_views, recipe, task, splits.train, data.input, shape),
        made_student,
        *(partial(made_teacher, name) for name in recipe.all_teachers),
    ]
    views, (student, transforms), *built = each_of(lambda make: make(), makers)
    teachers: dict[str, Teacher] = dict(zip(recipe.all_teachers, built, strict=True))
    assert compact is not None
    check_batches(recipe, views, teachers.values())
    count = min(PROBE, len(views), max(2, at_once(views.shape)))
    probe = views.checked([(0, i) for i in range(count)])
    images = probe.images
    check_outputs(student, images, task, "student")
    for teacher in teachers.values():
        check_outputs(teacher.module, teacher.see(images), task, teacher.role)
    if views.shape != data.input.shape:  # trained on windows, evaluated on the whole
        check_outputs(compact, torch.zeros(1, *data.input.shape), task, "student")
    pretrained = recipe.student.component.arguments.get("pretrained")
    if load_compact or recipe.student.weights or pretrained:
        check_kept(compact, student, images)
    trial = copied(student)  # for the phases and the probes; training starts without them
    check_outputs(trial, images, task, "student", train=True)
    known |= {"train_images": len(splits.train), "run_seed": recipe.seed}
    if isinstance(task, MultiLabel):
        known["label_shares"] = label_shares(splits.train)
    known |= class_counts(task, splits.train.labels)

    builder = StageBuilder(recipe, task, known, trial, compact, transforms, teachers, probe)
    stages = each_of(builder.build, enumerate(recipe.resolved_stages()))
    check_average(recipe, transforms)
    scaled = any(each.stage.optimizer.factor_lr != 1 for each in stages)
    if scaled and not products(student, transforms):
        notes.append(
            "optimizer.factor_lr: no layer is computed from factors, so it changes nothing"
        )
    check_teachers_used(recipe, task, [stage.objective for stage in stages])
    for teacher in teachers.values():
        teacher.settle(images)
    fresh = empty_student(recipe, data)
    rehearsal = rehearse_restoring(
        recipe, compact, trial, transforms, images, task.decide, fresh=fresh
    )
    for stage in stages:
        stage.objective.move_to(student)
    made = (compact, student, transforms, teachers, stages, rehearsal)
    return Job(recipe, data, splits, views, *made, notes)


def _views(
    recipe: Recipe, task: Task, train: ImageSource, input: InputSpec, shape: tuple[int, int, int]
) -> Views:
    """Return the training views; raise ValueError with all that the data cannot do."""
    checks: list[Callable[[], Any]] = [
        partial(Views, train, input, seed=recipe.seed, augment=recipe.data.augment),
        partial(mixing_of, recipe, task, train.labels),
        partial(check_augmentations, recipe, task, train),
        partial(check_crop, recipe, shape),
        partial(check_sampling, recipe, task),
        partial(check_objects, task, train),
    ]
    views, mixing, *_ = each_of(lambda check: check(), checks)
    views.mixing = mixing
    return views


def build_data(recipe: Recipe) -> tuple[ImageData, Splits]:
    """Open the data set, check it, and split it by the recipe.

    Only the training split has the recipe's label noise, if any; a note of the data says so.
    Raises ValueError for a data set that cannot be used as the recipe says.
    """
    section, part = recipe.data, recipe.data.component
    data: ImageData = part.build()
    try:
        check_data(data)
        for source in (data.train, data.test):
            task_of(data).check_source(source)
    except ValueError as error:
        raise ValueError(f"{part.place}: {part.where}: {part.use!r}: {error}") from error
    seed, share = recipe.seed, section.label_noise
    splits = split(data, validation=section.validation, limit=section.limit, seed=seed)
    if share:
        train, note = corrupt_labels(
            splits.train, splits.numbers, share=share, classes=len(data.classes), seed=seed
        )
        data, splits = replace(data, notes=[*data.notes, note]), replace(splits, train=train)
    return data, splits
