"""The main job: from a recipe to a run directory with the compact student in it."""

import shutil
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from kdx import checkpoints
from kdx.checkpoints import Saved
from kdx.launch.precision import in_words
from kdx.launch.processes import join
from kdx.memo.plan import Plan
from kdx.memo.use import plan_memo, remembering
from kdx.recipe import Recipe
from kdx.run.directory import claimed, is_finished, is_taken
from kdx.run.finish import finish
from kdx.run.resume import chosen, circumstances, compare, find, flat
from kdx.run.teacher_run import check_teacher, teacher_recipe
from kdx.tasks import primary_metric
from kdx.training.job import Job, StageJob, build
from kdx.training.log import RunLog
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.schedules import TABLE
from kdx.training.trainer import fit
from kdx.util.errors import CertificateError
from kdx.util.words import counted

__all__ = [
    "describe",
    "ensure_teacher",
    "run",
]


def run(recipe: Recipe, console: Console, *, overwrite: bool = False, resume: bool = False) -> Path:
    """Train as the recipe says and return the run directory.

    Where the teacher has no weights yet and names a recipe, that one is run first. With `resume`
    a run that stands there is gone on with, and a finished one is left alone. A run that is
    overwritten stands aside, as <name>.replaced, until the new one has succeeded.

    Raises ValueError for what does not fit, or is not what the run to resume was trained by;
    FileExistsError where the run directory is taken; Stopped where a signal asks for it;
    TrainingError for numbers that are not finite; CertificateError (student.safetensors is not
    written then).
    """
    console.quiet |= not join(recipe)
    run_dir = recipe.run_dir
    if resume and is_finished(run_dir):
        _check_finished(recipe)
        console.print(f"{run_dir} is finished: there is nothing to do",
                      highlight=False, soft_wrap=True)  # fmt: skip
        return run_dir
    if not (overwrite or resume) and is_taken(run_dir):
        raise FileExistsError(
            f"{run_dir} holds a run already: pass --resume to go on with it, --overwrite to "
            "replace it, or give this one another name (name=...)"
        )
    ensure_teacher(recipe, console)
    job = build(recipe)
    runtime = Runtime(job, accelerator_for(job))
    notes: list[str] = []
    memo = plan_memo(runtime, notes.append)
    main = runtime.accelerator.is_main_process
    saved, passed = chosen(run_dir, runtime) if resume else (None, [])
    notes += passed
    about = circumstances(runtime) if main else {}
    notes += _check_same(recipe, saved, about) if saved and main else []
    with claimed(recipe, resume=resume) if main else nullcontext() as aside:
        _introduce(job, runtime, console)
        if aside:
            notes.append(f"the run that stood here waits in {aside} until this one succeeds")
        if resume:
            notes.append(f"resumed from {saved.name}" if saved else "nothing to resume: begun anew")
        for note in notes:
            console.print(f"note     {note}", highlight=False, soft_wrap=True)
        _train(runtime, memo, console, about=about, saved=saved)
        if aside:
            shutil.rmtree(aside)
    return run_dir


def _train(
    runtime: Runtime,
    memo: Plan | None,
    console: Console,
    *,
    about: dict[str, Any],
    saved: Saved | None,
) -> None:
    """Train, restore, certify and export; the run directory is ours."""
    recipe, job = runtime.job.recipe, runtime.job
    teacher = check_teacher(runtime, console)
    epochs = sum(stage.stage.epochs for stage in job.stages)
    log = RunLog(
        recipe.run_dir,
        console,
        epochs=epochs,
        primary_metric=primary_metric(job.task),
        main=runtime.accelerator.is_main_process,
    )
    with closing(log), remembering(runtime, memo, console):
        progress = fit(runtime, log, run=about, saved=saved)
    if recipe.select == "best" and progress.best_checkpoint:
        place = recipe.run_dir / "checkpoints" / progress.best_checkpoint
        best = Saved.of(place.name, checkpoints.read(place))
        job.student.load_state_dict(job.student.state_dict() | dict(best.student))
    problems = finish(runtime, progress, teacher, console)
    if problems:
        raise CertificateError(f"{recipe.run_dir}: {'; '.join(problems)}; nothing was exported")


def _check_same(recipe: Recipe, saved: Saved, about: dict[str, Any]) -> list[str]:
    """Refuse to go on with another run; return what changed, and is harmless."""
    changes = compare(saved.run, about)
    if changes.refused:
        listed = "\n  ".join(changes.refused)
        raise ValueError(
            f"{recipe.run_dir}: it cannot be resumed, since what it is trained by has changed:\n"
            f"  {listed}\nTake these back, pass --overwrite to start again, or give this run "
            "another name (name=...)"
        )
    return [f"changed since: {line}" for line in changes.accepted]


def _check_finished(recipe: Recipe) -> None:
    """Refuse a recipe that is not the finished run's."""
    saved, _ = find(recipe.run_dir)
    if saved:
        now = {"recipe": flat(recipe.plain())}
        _check_same(recipe, saved, saved.run | now)


def ensure_teacher(recipe: Recipe, console: Console) -> None:
    """Run the teacher's recipe first, where its weights are absent; errors of `teacher_recipe`.

    A run of it that was stopped is gone on with.
    """
    teacher = teacher_recipe(recipe)
    if teacher is None:
        return
    # What is wrong shall show before the teacher's training, not after.
    trial = build(recipe, teacher_weights=False)
    plan_memo(Runtime(trial, accelerator_for(trial)))
    console.print(f"[bold]The teacher has no weights yet: {teacher.name} is run first[/bold]")
    run(teacher, console, resume=True)


def _introduce(job: Job, runtime: Runtime, console: Console) -> None:
    splits, counts = job.splits, job.rehearsal.parameters
    images = counted(len(splits.train), "training image")
    held = f", {len(splits.validation):,} held out" if splits.validation else ""
    console.rule(f"[bold]{job.recipe.name}")
    console.print(
        f"data     {job.recipe.data.component.use}: {images}{held}, "
        f"{counted(len(splits.test), 'test image')}, {counted(job.classes, 'class', 'classes')}\n"
        f"student  {job.recipe.student.component.use}: {counts['compact']:,} parameters, "
        f"trained with {counts['trained']:,}\n"
        f"device   {describe(runtime)}",
        highlight=False,
    )
    for note in job.data.notes:
        console.print(f"note     {note}", highlight=False, soft_wrap=True, markup=False)
    for stage in job.stages:
        if note := _idle_schedule(stage, runtime.batches.steps):
            console.print(f"note     {stage.stage.name}: {note}", highlight=False, soft_wrap=True)


def _idle_schedule(stage: StageJob, per_epoch: int) -> str:
    """Say where a schedule that should lower the learning rate ends without having done so."""
    epochs, schedule = stage.stage.epochs, stage.stage.schedule
    steps = epochs * per_epoch
    tried = (*range(0, steps, 1 + steps // 10_000), steps - 1)
    factors = [stage.schedule(step, steps, per_epoch) for step in tried]
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


def describe(runtime: Runtime) -> str:
    """Say on what and how a loop runs."""
    accelerator = runtime.accelerator
    processes = counted(runtime.world, "process", "processes")
    on_cpu = accelerator.device.type == "cpu"
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if on_cpu else ""
    precision = in_words(runtime.job.recipe.precision, accelerator.mixed_precision)
    return f"{accelerator.device.type}, {processes}{threads}, {precision}"
