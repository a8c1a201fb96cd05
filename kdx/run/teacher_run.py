"""The teacher of a run: the recipe that trains it, and whether it knows the data's classes."""

import os
from math import sqrt
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from torch import Tensor

from kdx.models.class_names import Names
from kdx.models.class_order import Confusion, Order, another_order
from kdx.models.networks import has_weights
from kdx.recipe import Recipe, beside
from kdx.recipe.sections import Teacher as TeacherSection
from kdx.run.directory import moved
from kdx.run.teacher_input import Right, better_input, seen_by
from kdx.tasks import primary_metric
from kdx.training.runtime import Runtime
from kdx.util.printing import say
from kdx.util.words import counted, listed

ANYWAY = "To train with it anyway: `teacher.allow_chance: true`"


def teacher_recipe(recipe: Recipe) -> Recipe | None:
    """Return the recipe to run first, the teacher's, if its weights are missing; else None.

    Raises ValueError if the teacher has no recipe, or one that would write other weights.
    """
    section = recipe.teacher
    if section is None or section.file is None or has_weights(section.weights):
        return None
    path = section.file.path
    missing = f"teacher.weights: {path} does not exist, and"
    if section.recipe is None:
        raise ValueError(f"{missing} the recipe has no `teacher.recipe` to train it")
    teacher, _ = moved(beside(recipe, section.recipe), resume=True, overwrite=False)
    places = [Path(os.path.realpath(each.run_dir)) for each in (recipe, teacher)]
    if any(one.is_relative_to(other) for one, other in (places, reversed(places))):
        raise ValueError(
            f"{missing} {section.recipe} would train it in {teacher.run_dir}, and the student in "
            f"{recipe.run_dir}: one run cannot lie in another, give them other names (name=...)"
        )
    if teacher.run_dir.resolve() != Path(path).resolve():
        raise ValueError(
            f"{missing} {section.recipe} would write {teacher.run_dir}: make its `name:` and the "
            "weights the same, or, if they were moved, set their path (teacher.weights=...)"
        )
    asked, trained = section.component, teacher.student.component
    if (asked.use, dict(asked.arguments)) != (trained.use, dict(trained.arguments)):
        raise ValueError(
            f"teacher: {asked.use} with {dict(asked.arguments)}, but {section.recipe} would train "
            f"{trained.use} with {dict(trained.arguments)}: make the two the same"
        )
    return teacher


def check_teacher(runtime: Runtime, console: Console) -> dict[str, float] | None:
    """Evaluate the teacher and say what it is fed. Returns its metrics.

    Raises ValueError if it is no better than chance, or if another order of the classes explains
    most of its answers.
    """
    job, section = runtime.job, runtime.job.recipe.teacher
    if job.teacher is None:
        return None
    name, source = runtime.evaluation_source()
    confusion, right = Confusion(job.classes), Right(len(source), job.classes)
    evaluation = runtime.evaluate(job.teacher, source, [confusion, right])
    first, chance = primary_metric(job.task), job.task.chance
    share, heading = evaluation.metrics[first], job.task.metrics[first]
    images = counted(len(source), f"{name} image")
    say(console, f"teacher  {share:.2%} {heading} on {images}; {seen_by(job.teacher)}")
    order = another_order(*_whole(confusion, runtime))
    notes = [f"teacher: {order.explain(job.data.classes)}"] if order else []
    allowed = section is None or section.allow_chance
    if order and order.certain and not allowed:
        raise ValueError(f"{notes[0]}. {_remedy(order, job.data.classes)}")
    if better := better_input(runtime, job.teacher, source, right.gather(runtime)):
        notes.append(better)
    runtime.teacher_predictions = evaluation.predictions
    for note in (*job.teacher.notes, *notes):
        say(console, f"note     {note}")
    bound = chance + 2 * sqrt(chance * (1 - chance) / len(source))
    if share <= bound and section and not allowed:
        raise ValueError(
            f"teacher: {share:.2%} {heading} on {images} is no better than chance, which is "
            f"{chance:.2%} and reaches {bound:.2%} by luck (two standard errors). "
            f"{'. '.join([_why_at_chance(section), *notes])}. {ANYWAY}"
        )
    return evaluation.metrics


def _whole(confusion: Confusion, runtime: Runtime) -> tuple[Tensor, int]:
    """Return the counts [2, C, C] and the images of all processes."""
    device, images = runtime.accelerator.device, torch.tensor(confusion.images)
    parts = (confusion.counts.to(device), images.to(device))
    counts, images = (cast("Tensor", runtime.accelerator.reduce(each)) for each in parts)
    return counts, int(images)


def _remedy(order: Order, names: Names) -> str:
    says = {output: names[number] for number, output in enumerate(order.outputs)}
    return (
        f"Its outputs are, in order: {listed([says[n] for n in range(len(says))])}. Name the "
        "data's classes so that they are numbered so (folders are sorted by name), or take the "
        f"rows {order.outputs} of the teacher's last layer. {ANYWAY}"
    )


def _why_at_chance(section: TeacherSection) -> str:
    """Name what may be wrong with a teacher at chance, the likeliest first."""
    if section.component.use.startswith("object:"):
        return "It may be undertrained, or know other classes or images normalised otherwise"
    if section.file and section.file.head:
        return "Its head is new (teacher.weights.head): train it on this data first"
    if section.file:
        return (
            f"It may be undertrained, {section.file.path} may be another network's weights, its "
            "classes may be in another order, or its images normalised otherwise (teacher.input)"
        )
    if section.component.arguments.get("pretrained"):
        return (
            "It has no `weights:`, and a published network of other classes starts with a new "
            "classifier: train it on this data first"
        )
    return "It has no `weights:`: its parameters are random. Give them, and a `recipe:` to train it"
