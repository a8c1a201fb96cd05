"""The teacher of a run: the recipe that trains it, and whether it knows the data's classes."""

import os
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from kdx.models.class_names import Names
from kdx.models.class_order import Order, SplitConfusion, another_order
from kdx.models.ensemble import TeacherMean
from kdx.models.networks import has_weights
from kdx.protocols import Outputs
from kdx.recipe import Recipe, beside
from kdx.recipe.errors import each_of
from kdx.recipe.sections import Teacher as TeacherSection
from kdx.run.directory import moved
from kdx.run.precision_check import PrecisionCheck
from kdx.run.teacher_input import Right, better_input, seen_by
from kdx.tasks import Classification, Segmentation, numbers_of, primary_metric, reached_by_luck
from kdx.training.evaluation import Evaluation
from kdx.training.runtime import Runtime
from kdx.util.printing import say
from kdx.util.words import counted, listed, measured

ANYWAY = "To train with it anyway: `{}.allow_chance: true`"


def teacher_recipes(recipe: Recipe, *, named: bool = False) -> dict[str, Recipe]:
    """Return the recipes to run first: those of teachers whose weights are missing, by name.

    `named`: only those that have a recipe. Raises ValueError if a teacher without weights has
    none, or one that would write other weights.
    """
    asked = {n: each for n, each in recipe.all_teachers.items() if each.recipe or not named}
    found = each_of(lambda section: _recipe_of(section, recipe), asked.values())
    return {name: each for name, each in zip(asked, found, strict=True) if each}


def _recipe_of(section: TeacherSection, recipe: Recipe) -> Recipe | None:
    if section.file is None or has_weights(section.weights):
        return None
    path, place = section.file.path, section.component.where
    missing = f"{place}.weights: {path} does not exist, and"
    if section.recipe is None:
        raise ValueError(f"{missing} the recipe has no `{place}.recipe` to train it")
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
            f"weights the same, or, if they were moved, set their path ({place}.weights=...)"
        )
    asked, trained = section.component, teacher.student.component
    if (asked.use, dict(asked.arguments)) != (trained.use, dict(trained.arguments)):
        raise ValueError(
            f"{place}: {asked.use} with {dict(asked.arguments)}, but {section.recipe} would train "
            f"{trained.use} with {dict(trained.arguments)}: make the two the same"
        )
    return teacher


def check_teachers(runtime: Runtime, console: Console) -> dict[str, dict[str, float]]:
    """Evaluate each teacher and say what it is fed. Returns their metrics, by name.

    Of several, also of the mean of their probabilities, under "". The student's moving average has
    none yet. Raises ValueError for a teacher that is no better than chance, or if another order of
    the classes explains most of its predictions.
    """
    teachers = {name: t for name, t in runtime.job.teachers.items() if not t.average}
    found = {name: _check(runtime, name, console) for name in teachers}
    if len(found) > 1 and isinstance(runtime.job.task, Classification | Segmentation):
        shares = dict.fromkeys(teachers, 1.0)

        def mean(images: Tensor) -> Outputs:
            outputs = {name: teacher(images) for name, teacher in teachers.items()}
            return Outputs(TeacherMean(outputs, shares, at=1.0).logits)

        _, source = runtime.evaluation_source()
        found[""] = runtime.evaluate(mean, source)
        say(console, f"teachers {_scored(runtime, found[''])}; the mean of their probabilities")
    if len(found) in (1, len(teachers) + 1):
        runtime.teacher_predictions = found["" if "" in found else next(iter(found))].predictions
    return {name: evaluation.metrics for name, evaluation in found.items()}


def _check(runtime: Runtime, name: str, console: Console) -> Evaluation:
    job, teacher = runtime.job, runtime.job.teachers[name]
    section = job.recipe.all_teachers[name]
    _, source = runtime.evaluation_source()
    confusion, right = SplitConfusion(job.classes), Right(len(source), job.classes)
    check = PrecisionCheck(teacher, runtime) if section.precision not in (None, "no") else None
    evaluation = runtime.evaluate(check or teacher, source, [confusion, right])
    scored, place = _scored(runtime, evaluation), section.component.where
    say(console, f"{teacher.role:8} {scored}; {seen_by(teacher)}")
    order = another_order(*_whole(confusion, runtime))
    notes = [f"{place}: {order.explain(job.data.classes)}"] if order else []
    if check:
        try:
            notes.append(f"{place}.precision: {check.described()}")
        except ValueError as error:
            raise ValueError(f"{place}.precision: {error}") from error
    anyway = ANYWAY.format(place)
    if order and order.certain and not section.allow_chance:
        raise ValueError(f"{notes[0]}. {_remedy(order, job.data.classes)}. {anyway}")
    if better := better_input(runtime, teacher, source, right.gather(runtime), place):
        notes.append(better)
    for note in (*teacher.notes, *notes):
        say(console, f"note     {note}")
    first, numbers = primary_metric(job.task), numbers_of(job.task)
    chance, share = job.task.chance, evaluation.metrics[first]
    bound = reached_by_luck(job.task, len(source))
    if share <= bound and not section.allow_chance:
        raise ValueError(
            f"{place}: {scored} is no better than chance, which is "
            f"{measured(first, chance, numbers)} and reaches {measured(first, bound, numbers)} by "
            "luck (two standard errors). "
            f"{'. '.join([_why_at_chance(section), *notes])}. {anyway}"
        )
    return evaluation


def _scored(runtime: Runtime, evaluation: Evaluation) -> str:
    name, source = runtime.evaluation_source()
    first = primary_metric(runtime.job.task)
    images = counted(len(source), f"{name} image")
    share = measured(first, evaluation.metrics[first], numbers_of(runtime.job.task))
    return f"{share} {runtime.job.task.metrics[first]} on {images}"


def _whole(confusion: SplitConfusion, runtime: Runtime) -> tuple[Tensor, int]:
    """Return the counts [2, C, C] and the images of all processes."""
    return runtime.sum(confusion.counts), int(runtime.sum(torch.tensor(confusion.images)))


def _remedy(order: Order, names: Names) -> str:
    says = {output: names[number] for number, output in enumerate(order.outputs)}
    return (
        f"Its outputs are, in order: {listed([says[n] for n in range(len(says))])}. Name the "
        "data's classes so that they are numbered so (folders are sorted by name), or take the "
        f"rows {order.outputs} of the teacher's last layer"
    )


def _why_at_chance(section: TeacherSection) -> str:
    """Name what may be wrong with a teacher at chance, the likeliest first."""
    place = section.component.where
    if section.component.use.startswith("object:"):
        return "It may be undertrained, or know other classes or images normalised otherwise"
    if section.file and section.file.head:
        return f"Its head is new ({place}.weights.head): train it on this data first"
    if section.file:
        return (
            f"It may be undertrained, {section.file.path} may be another network's weights, its "
            f"classes may be in another order, or its images normalised otherwise ({place}.input)"
        )
    if section.component.arguments.get("pretrained"):
        return (
            "It has no `weights:`, and a published network of other classes starts with a new "
            "classifier: train it on this data first"
        )
    return "It has no `weights:`: its parameters are random. Give them, and a `recipe:` to train it"
