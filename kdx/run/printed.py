"""What the console shows at the beginning and at the end of a run."""

from pathlib import Path

import torch
from rich.console import Console

from kdx.launch.precision import in_words
from kdx.models import weights
from kdx.models.certificate import Certificate
from kdx.report.summary import Summary
from kdx.report.trained import manner_in_words
from kdx.run.class_tables import in_brief
from kdx.run.classes import Classes
from kdx.tasks import counted_outputs
from kdx.training.job import Job
from kdx.training.runtime import Runtime
from kdx.training.schedules import TABLE
from kdx.training.stage_jobs import StageJob
from kdx.util.printing import rule, say
from kdx.util.words import counted, measured


def print_introduction(job: Job, runtime: Runtime, console: Console, notes: list[str]) -> None:
    """Print what is trained on what, and the notes of data, job and run."""
    splits, counts = job.splits, job.rehearsal.parameters
    images = counted(len(splits.train), "training image")
    held = f", {len(splits.validation):,} held out" if splits.validation else ""
    idle = [_idle_schedule(stage, runtime.batches.steps) for stage in job.stages]
    every = [*job.data.notes, *job.notes, *filter(None, idle), *notes]
    trained = manner_in_words(job.recipe.plain())
    lines = [
        f"data     {job.recipe.data.component.use}: {images}{held}, "
        f"{counted(len(splits.test), 'test image')}, {counted_outputs(job.task, job.classes)}",
        f"student  {job.recipe.student.component.use}: {counts['compact']:,} parameters, "
        f"trained with {counts['trained']:,}",
        *([f"trained  {trained}"] if trained else []),
        f"device   {describe(runtime)}",
        *(f"note     {note}" for note in every),
    ]
    rule(console, job.recipe.name)
    say(console, "\n".join(lines))


def _idle_schedule(stage: StageJob, per_epoch: int) -> str:
    """Return a note if a schedule that should lower the learning rate never does, else ""."""
    epochs, schedule = stage.stage.epochs, stage.stage.schedule
    steps = epochs * per_epoch
    tried = (*range(0, steps, 1 + steps // 10_000), steps - 1)
    factors = [stage.schedule(step, steps, per_epoch) for step in tried]
    if schedule.use == "constant" or factors[-1] < max(factors):
        return ""
    note = (
        f"{stage.stage.name}: the schedule {schedule.use} never lowers the learning rate in "
        f"{counted(epochs, 'epoch')} of {counted(per_epoch, 'step')}"
    )
    given = schedule.arguments if schedule.use in TABLE else {}
    late = any(at >= epochs for at in (*given.get("milestones", ()), given.get("warmup", 0)))
    units = "milestones and warmup are epochs from 1 on, and fractions of the stage below 1"
    return f"{note}: {units}" if late else note


def describe(runtime: Runtime) -> str:
    """Say on what and how a job runs: device, processes, threads, precision."""
    device = runtime.accelerator.device.type
    processes = counted(runtime.world, "process", "processes")
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if device == "cpu" else ""
    precision = in_words(runtime.job.recipe.precision, runtime.accelerator.mixed_precision)
    return f"{device}, {processes}{threads}, {precision}"


def print_result(
    summary: Summary,
    certificate: Certificate,
    classes: Classes | None,
    run_dir: Path,
    console: Console,
    *,
    luck: float = 0.0,
) -> None:
    """Print what was exported: accuracy, size, what the export changed, and where it lies.

    `luck` is what chance may reach of the primary metric.
    """
    first = summary.primary_metric
    test, best = (measured(first, m[first], summary.numbers) for m in (summary.test, summary.best))
    lines = [
        f"compact  {summary.parameters['compact']:,} parameters, {test} "
        f"{summary.headings[first]} on {counted(summary.test_images, 'test image')} (best epoch on "
        f"{summary.evaluated_on}: {best}, epoch {summary.best_epoch})"
    ]
    if summary.test[first] <= luck < 1:
        lines.append(
            f"note     {test} is no better than chance: check the labels, that the network returns "
            "logits (no softmax), and the learning rate"
        )
    if summary.exported == "average":
        lines.append("         it is the average of the student's compact weights")
        is_behind = summary.average and summary.last[first] > summary.average[first]
        if is_behind and summary.evaluated_on == "test":
            own = measured(first, summary.last[first], summary.numbers)
            lines[-1] += f"; the student itself reached {own}: with data.validation the better of "
            lines[-1] += "the two is exported"
    elif summary.parameters["trained"] != summary.parameters["compact"]:
        changed = f"{certificate.predictions_changed:,} of {certificate.predictions:,}"
        changed = f"; predictions changed: {changed}" if certificate.predictions else ""
        lines.append(
            f"         differs from the trained network by {certificate.difference}{changed}"
        )
    lines += [
        f"{name:8} {measured(first, metrics[first], summary.numbers)} {summary.headings[first]}, "
        "simulated, on the test images"
        for name, metrics in summary.simulated.items()
    ]
    teacher, chosen = (summary.teacher or {}).get(first), summary.last
    if summary.exported_epoch == summary.best_epoch:
        chosen = summary.best
    elif summary.exported == "average" and summary.average:
        chosen = summary.average
    if teacher is not None and chosen[first] >= teacher:
        lines.append(
            f"teacher  {measured(first, teacher, summary.numbers)} {summary.headings[first]} on "
            f"{summary.evaluated_on}: no better than the student; a better teacher may help more"
        )
    lines += in_brief(classes) if classes else []
    lines += [f"student  {run_dir / weights.FILE_IN_RUN}", f"report   {run_dir / 'report.html'}"]
    say(console, *lines)
