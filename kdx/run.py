"""The main job: from a recipe to a run directory with the compact student in it."""

import shutil
from contextlib import closing
from math import sqrt
from pathlib import Path

import torch
from rich.console import Console

from kdx import weights
from kdx.build import Job, StageJob, build
from kdx.finish import finish
from kdx.log import RunLog
from kdx.loop import Loop, accelerator_for
from kdx.memo.use import plan_memo, remembering
from kdx.networks import has_weights
from kdx.precision import in_words
from kdx.processes import join
from kdx.recipe import Recipe
from kdx.recipe.sections import Teacher as TeacherSection
from kdx.schedules import TABLE
from kdx.words import counted

__all__ = [
    "CertificateError",
    "check_teacher",
    "describe",
    "ensure_teacher",
    "run",
    "teacher_recipe",
]


UNTRAINED = {"recipe.yaml", "tensorboard"}  # what a run writes before its first epoch is done


class CertificateError(Exception):
    """The compact network is not the one that was trained; nothing was exported."""


def run(recipe: Recipe, console: Console, *, overwrite: bool = False) -> Path:
    """Train as the recipe says and return the run directory.

    Where the teacher has no weights yet and names a recipe, that one is run first. Raises
    ValueError for what does not fit, FileExistsError where the run directory is taken, and
    CertificateError (student.safetensors is not written then). A run that is overwritten stands
    aside, as <name>.replaced, until the new one has succeeded.
    """
    join(recipe)
    if not overwrite and _is_taken(recipe.run_dir):
        raise FileExistsError(
            f"{recipe.run_dir} holds a run already: pass --overwrite to replace it, "
            "or give this one another name (name=...)"
        )
    ensure_teacher(recipe, console)
    job = build(recipe)
    loop = Loop(job, accelerator_for(job))
    memo = plan_memo(loop)
    main = loop.accelerator.is_main_process
    console.quiet = not main
    aside = _claim(recipe) if main else None
    _introduce(job, loop, console)
    if aside:
        console.print(f"note     the run that stood here waits in {aside} until this one succeeds",
                      highlight=False, soft_wrap=True)  # fmt: skip
    teacher = check_teacher(loop, console)
    log = RunLog(
        recipe.run_dir,
        console,
        epochs=sum(stage.stage.epochs for stage in job.stages),
        input=job.data.input,
        classes=job.classes,
        extra=job.about,
        main=main,
    )
    with closing(log), remembering(loop, memo, console):
        fitted = loop.fit(log)
    best = loop.agree(log.best)
    if recipe.select == "best" and best:
        weights.load(job.student, best)
    problems = finish(loop, fitted, teacher, console)
    if problems:
        raise CertificateError(f"{recipe.run_dir}: {'; '.join(problems)}; nothing was exported")
    if aside:
        shutil.rmtree(aside)
    return recipe.run_dir


def _is_taken(run_dir: Path) -> bool:
    """Whether something stands there, but for a run that ended before it had trained an epoch."""
    if not run_dir.exists():
        return False
    found = {path.name for path in run_dir.iterdir()}
    return bool(found) and not ("recipe.yaml" in found and found <= UNTRAINED)


def _claim(recipe: Recipe) -> Path | None:
    """Make the run directory; return where the run that stood there stands aside, if one did.

    Only a directory that is a run is moved. Of two that were never finished, the first is kept.
    """
    run_dir, aside = recipe.run_dir, recipe.run_dir.with_name(f"{recipe.run_dir.name}.replaced")
    if _is_taken(run_dir):
        if not (run_dir / "recipe.yaml").is_file():
            raise FileExistsError(f"{run_dir} is not a run of kdx: it is not replaced")
        if aside.exists():
            shutil.rmtree(run_dir)
        else:
            run_dir.rename(aside)
    shutil.rmtree(run_dir / "tensorboard", ignore_errors=True)  # of a run that trained nothing
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "recipe.yaml").write_text(recipe.to_yaml())
    return aside if aside.exists() else None


def ensure_teacher(recipe: Recipe, console: Console) -> None:
    """Run the teacher's recipe first, where its weights are absent; errors of `teacher_recipe`."""
    teacher = teacher_recipe(recipe)
    if teacher is None:
        return
    # What is wrong shall show before the teacher's training, not after.
    trial = build(recipe, teacher_weights=False)
    plan_memo(Loop(trial, accelerator_for(trial)))
    console.print(f"[bold]The teacher has no weights yet: {teacher.name} is run first[/bold]")
    run(teacher, console, overwrite=True)


def teacher_recipe(recipe: Recipe) -> Recipe | None:
    """Return the recipe to run first: the teacher's, where its weights are absent, else None.

    Raises ValueError where the teacher has no recipe, or one that would write other weights.
    """
    section = recipe.teacher
    if section is None or has_weights(section.weights):
        return None
    if section.recipe is None:
        raise ValueError(
            f"teacher.weights: {section.weights} does not exist, and the recipe names no "
            "`teacher.recipe` to train it by"
        )
    teacher = recipe.beside(section.recipe)
    if teacher.run_dir.resolve() != Path(section.weights or "").resolve():
        raise ValueError(
            f"teacher.weights: {section.weights} does not exist, and {section.recipe} would "
            f"write {teacher.run_dir}: make its `name:` and the weights the same"
        )
    _check_same_teacher(section, teacher)
    return teacher


def _check_same_teacher(section: TeacherSection, recipe: Recipe) -> None:
    """Raise ValueError where the teacher's recipe would train another network."""
    asked, trained = section.component, recipe.student.component
    if (asked.use, dict(asked.arguments)) != (trained.use, dict(trained.arguments)):
        raise ValueError(
            f"teacher: {asked.use} with {dict(asked.arguments)}, but {section.recipe} would train "
            f"{trained.use} with {dict(trained.arguments)}: make the two the same"
        )


def _introduce(job: Job, loop: Loop, console: Console) -> None:
    splits, counts = job.splits, job.rehearsal.parameters
    images = counted(len(splits.train), "training image")
    held = f", {len(splits.validation):,} held out" if splits.validation else ""
    console.rule(f"[bold]{job.recipe.name}")
    console.print(
        f"data     {job.recipe.data.component.use}: {images}{held}, "
        f"{counted(len(splits.test), 'test image')}, {counted(job.classes, 'class', 'classes')}\n"
        f"student  {job.recipe.student.component.use}: {counts['compact']:,} parameters, "
        f"trained with {counts['trained']:,}\n"
        f"device   {describe(loop)}",
        highlight=False,
    )
    for stage in job.stages:
        if note := _idle_schedule(stage, loop.batches.steps):
            console.print(f"note     {stage.stage.name}: {note}", highlight=False, soft_wrap=True)


def _idle_schedule(stage: StageJob, per_epoch: int) -> str:
    """Say where a schedule that should lower the learning rate ends without having done so."""
    epochs, schedule = stage.stage.epochs, stage.stage.schedule
    steps = epochs * per_epoch
    factors = [stage.schedule(step, steps, per_epoch) for step in range(steps)]
    if schedule.use == "constant" or factors[-1] < max(factors):
        return ""
    note = (
        f"the schedule {schedule.use} never lowers the learning rate in "
        f"{counted(epochs, 'epoch')} of {counted(per_epoch, 'step')}"
    )
    given = schedule.arguments if schedule.use in TABLE else {}
    late = any(at >= epochs for at in (*given.get("milestones", ()), given.get("warmup", 0)))
    units = "milestones and warmup are epochs from 1 on, and shares of the stage below 1"
    return f"{note}: {units}" if late else note


def describe(loop: Loop) -> str:
    """Say on what and how a loop runs."""
    accelerator = loop.accelerator
    processes = counted(loop.world, "process", "processes")
    on_cpu = accelerator.device.type == "cpu"
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if on_cpu else ""
    precision = in_words(loop.job.recipe.precision, accelerator.mixed_precision)
    return f"{accelerator.device.type}, {processes}{threads}, {precision}"


def check_teacher(loop: Loop, console: Console) -> dict[str, float] | None:
    """Evaluate the teacher; ValueError where it does no better than chance."""
    job = loop.job
    if job.teacher is None:
        return None
    name, source = loop.evaluation_source()
    evaluation = loop.evaluate(job.teacher, source)
    loop.teacher_predictions = evaluation.predictions
    top1, chance = evaluation.metrics["top1"], 1 / job.classes
    images = counted(len(source), f"{name} image")
    console.print(f"teacher  {top1:.2%} top-1 on {images}", highlight=False)
    bound = chance + 2 * sqrt(chance * (1 - chance) / len(source))
    section = job.recipe.teacher
    if top1 <= bound and section and not section.allow_chance:
        raise ValueError(
            f"teacher: {top1:.2%} top-1 on {images} is no better than chance, which is "
            f"{chance:.2%} and reaches {bound:.2%} by luck (two standard errors). "
            f"{_why_at_chance(section)}. `teacher.allow_chance: true` trains with it all the same"
        )
    return evaluation.metrics


def _why_at_chance(section: TeacherSection) -> str:
    """Name what may be wrong with a teacher that knows nothing, the likeliest first."""
    if section.weights:
        return (
            f"It may be undertrained, {section.weights} may be another network's weights, its "
            "classes may be in another order, or its images normalised otherwise (teacher.input)"
        )
    if section.component.arguments.get("pretrained"):
        return (
            "It has no `weights:`, and a published network of other classes begins with a new "
            "classifier: train it on this data first"
        )
    return "It has no `weights:`: its parameters are random. Give them, and a `recipe:` to train it"
