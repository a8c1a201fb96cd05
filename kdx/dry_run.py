"""A dry run: build everything, print the plan, take a few steps, say what the run would cost."""

import resource
import statistics
import sys
import time
from itertools import cycle, islice

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kdx.build import Job, build
from kdx.loop import Loop, accelerator_for
from kdx.memo.use import plan_memo, show
from kdx.networks import build_student, has_weights
from kdx.protocols import Planned
from kdx.recipe import Recipe
from kdx.run import describe
from kdx.stage import StageRunner

__all__ = ["dry_run"]

WARM_UP, TIMED = 1, 5  # steps of each stage


def dry_run(recipe: Recipe, console: Console) -> None:
    """Print what `run` would do. Nothing is written; errors are those of a real run."""
    there = recipe.teacher is None or has_weights(recipe.teacher.weights)
    job = build(recipe, teacher_weights=there)
    loop = Loop(job, accelerator_for(job))
    console.quiet = not loop.accelerator.is_main_process
    console.rule(f"[bold]{recipe.name}: dry run")
    console.print(f"device: {describe(loop)}", highlight=False)
    _print_data(job, console)
    _print_plan(job, console)
    if recipe.teacher and not there:
        console.print(
            f"teacher: no weights at {recipe.teacher.weights}; "
            f"trained first by {recipe.teacher.recipe or 'nothing: the run would stop here'}",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
    if memo := plan_memo(loop):
        if there:
            show(memo, console, "memo: ")
        else:
            console.print(f"memo: {memo.rows()}, when there is a teacher", highlight=False)
        console.print("memo: the steps below ask the teacher, as those that fill it do")
    _print_stages(job, loop, console)
    error = job.rehearsal.float32.max_rel_error
    console.print(
        f"rehearsal: restored, the student is the compact network again, within {error:.1e} of "
        f"the largest logit; a run would write {recipe.run_dir}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _print_data(job: Job, console: Console) -> None:
    input, splits = job.data.input, job.splits
    held = f"{len(splits.validation):,} validation, " if splits.validation else ""
    console.print(
        f"data: {job.recipe.data.component.use}, {input.channels} x {input.size} x {input.size}, "
        f"{job.classes} classes: {len(splits.train):,} training, {held}{len(splits.test):,} test",
        highlight=False,
    )


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
    )


def _print_stages(job: Job, loop: Loop, console: Console) -> None:
    """Take a few real steps of every stage, and print what all of its epochs would cost."""
    table = Table(title="Stages", box=SIMPLE_HEAD)
    for heading in ("stage", "losses"):
        table.add_column(heading)
    for heading in ("epochs", "steps", "ms/step", "images/s", "training"):
        table.add_column(heading, justify="right", no_wrap=True)
    total = 0.0
    for stage in job.stages:
        job.enter(stage.stage.phase)
        runner = StageRunner(loop, stage)
        seconds = _seconds_per_step(loop, runner)
        runner.finish()
        steps = loop.batches.steps * stage.stage.epochs
        total += steps * seconds
        table.add_row(
            stage.stage.name,
            " + ".join(f"{t.weight:g} {t.name}" for t in stage.stage.losses),
            str(stage.stage.epochs),
            f"{steps:,}",
            f"{seconds * 1000:.1f}",
            f"{job.recipe.data.batch_size / seconds:,.0f}",
            _duration(steps * seconds),
        )
        if stage.unused:
            console.print(
                f"{stage.stage.name}: its losses do not reach {len(stage.unused)} of the "
                f"trained tensors, such as {stage.unused[0]}",
                soft_wrap=True, highlight=False,
            )  # fmt: skip
    console.print(table)
    console.print(
        f"cost: about {_duration(total)} of training and {_memory(loop)} of memory",
        highlight=False,
    )


def _seconds_per_step(loop: Loop, runner: StageRunner) -> float:
    """The median over a few steps on real batches, after a warm-up."""
    times = []
    steps = islice(cycle(range(loop.batches.steps)), WARM_UP + TIMED)
    loop.batches.set_epoch(0)
    batches = cycle(loop.loader)
    for step in steps:
        started = time.perf_counter()
        runner.step(next(batches), loop.batches.size(step), {})
        if loop.accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])


def _memory(loop: Loop) -> str:
    if loop.accelerator.device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB GPU"
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes or in KiB
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB"


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
