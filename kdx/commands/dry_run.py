"""A dry run: build everything, print the plan, take a few steps, say what the run would cost."""

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kdx.commands.trials import trials
from kdx.launch.memory import peak
from kdx.launch.processes import join
from kdx.memo import Plan
from kdx.memo.use import plan_memo, show
from kdx.models.certificate import count_parameters
from kdx.models.networks import build_student, has_weights
from kdx.protocols import Planned
from kdx.recipe import Recipe
from kdx.run.run import describe
from kdx.run.teacher_run import teacher_recipe
from kdx.training.job import Job, build
from kdx.training.runtime import Runtime, accelerator_for

__all__ = ["dry_run"]


def dry_run(recipe: Recipe, console: Console) -> None:
    """Print what `run` would do. Nothing is written; errors are those of a real run."""
    join(recipe)
    there = recipe.teacher is None or has_weights(recipe.teacher.weights)
    first = teacher_recipe(recipe) if recipe.teacher and recipe.teacher.recipe else None
    job = build(recipe, teacher_weights=there)
    runtime = Runtime(job, accelerator_for(job))
    console.quiet = not runtime.accelerator.is_main_process
    console.rule(f"[bold]{recipe.name}: dry run")
    console.print(f"device: {describe(runtime)}", highlight=False, markup=False)
    _print_data(job, console)
    _print_plan(job, console)
    _print_teacher(job, first, console)
    memo = plan_memo(runtime, lambda note: console.out(f"note: {note}", highlight=False))
    if memo:
        show(memo, console, "memo: ", trained=there)
    seconds = _print_stages(runtime, memo, console)
    before = f", after {_duration(_training_of(first))} of the teacher's own" if first else ""
    console.print(
        f"cost: about {_duration(seconds)} of training{before}; {_memory(runtime)} of memory",
        highlight=False,
        markup=False,
    )
    error = job.rehearsal.float32.max_rel_error
    console.print(
        f"rehearsal: restored, the student is the compact network again, within {error:.1e} of "
        f"the largest logit; a run would write {recipe.run_dir}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _print_data(job: Job, console: Console) -> None:
    input, splits = job.data.input, job.splits
    held = f"{len(splits.validation):,} validation, " if splits.validation else ""
    console.print(
        f"data: {job.recipe.data.component.use}, {input}, "
        f"{job.classes} classes: {len(splits.train):,} training, {held}{len(splits.test):,} test",
        highlight=False,
        markup=False,
    )
    for note in job.data.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)


def _print_plan(job: Job, console: Console) -> None:
    """Print each transform's plan, where it has one, and the parameters before and after."""
    student = build_student(job.recipe, job.data)
    for transform, part in zip(job.transforms, job.recipe.student.transforms, strict=True):
        if isinstance(transform, Planned):
            console.print(f"plan of {part.use}:")
            console.out(transform.plan(student), highlight=False)
        student = transform.apply(student)
    counts = job.rehearsal.parameters
    console.print(
        f"student: {job.recipe.student.component.use}, {counts['compact']:,} parameters, "
        f"trained with {counts['trained']:,}",
        highlight=False,
        markup=False,
    )


def _print_teacher(job: Job, first: Recipe | None, console: Console) -> None:
    section = job.recipe.teacher
    if section is None or job.teacher is None:
        return
    if first:
        source = f"no weights at {section.weights} yet: {first.name} is run first"
    elif not has_weights(section.weights):
        source = f"no weights at {section.weights}, and no `recipe:`: the run would stop here"
    elif section.weights:
        source = f"weights of {section.weights}"
    elif section.component.arguments.get("pretrained"):
        source = "published weights"
    else:
        source = "random values, as it has no `weights:`"
    count = count_parameters(job.teacher.module)
    console.print(
        f"teacher: {section.component.use}, {count:,} parameters; {source}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _print_stages(runtime: Runtime, memo: Plan | None, console: Console) -> float:
    """Try every stage, print what all of its epochs would cost, and return the seconds of all."""
    table = Table(title="Stages", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("stage", "losses"):
        table.add_column(heading)
    for heading in ("epochs", "steps", "ms/step", "img/s", "training"):
        table.add_column(heading, justify="right", no_wrap=True)
    total = 0.0
    for trial in trials(runtime, memo):
        stage, seconds = trial.stage, trial.seconds
        total += trial.steps * seconds
        table.add_row(
            stage.name + (f"\n+ {trial.guide}" if trial.guide else ""),
            "\n+ ".join(f"{t.weight:g} {t.name}" for t in stage.losses),
            f"{trial.epochs:.1f}".removesuffix(".0"),
            f"{trial.steps:,.0f}",
            f"{seconds * 1000:.1f}",
            f"{runtime.batches.batch_size / seconds:,.0f}",
            _duration(trial.steps * seconds),
        )
    for stage in runtime.job.stages:
        if stage.unused:
            console.print(
                f"{stage.stage.name}: its losses do not reach {len(stage.unused)} of the "
                f"trained tensors, such as {stage.unused[0]}",
                soft_wrap=True, highlight=False, markup=False,
            )  # fmt: skip
    console.print(table)
    return total


def _training_of(recipe: Recipe) -> float:
    """Return the seconds that the training of another recipe would take."""
    job = build(recipe, teacher_weights=False)
    runtime = Runtime(job, accelerator_for(job))
    return sum(trial.steps * trial.seconds for trial in trials(runtime, plan_memo(runtime)))


def _memory(runtime: Runtime) -> str:
    if runtime.accelerator.device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB GPU"
    used = peak()
    return f"{used / 2**30:.2f} GiB" if used else "an unknown amount"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
