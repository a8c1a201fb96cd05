"""Print what a run would do and cost: build everything, and take a few steps of each stage."""

from collections.abc import Mapping

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kdx.commands.scale import Measured, check_share, scaled
from kdx.commands.start import start_notes
from kdx.commands.trials import trials
from kdx.launch.memory import peak
from kdx.launch.processes import join
from kdx.memo.plan import Plan
from kdx.memo.use import plan_memos, show
from kdx.models.certificate import count_parameters
from kdx.models.networks import build_student, has_weights
from kdx.protocols import Planned
from kdx.recipe import Recipe
from kdx.report.trained import manner_in_words
from kdx.run.printed import describe
from kdx.run.teacher_input import seen_by
from kdx.run.teacher_run import teacher_recipes
from kdx.tasks import counted_outputs
from kdx.training.job import Job, build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.workers import choose_workers
from kdx.util.printing import plain, rule, say
from kdx.util.words import in_time


def dry_run(recipe: Recipe, console: Console, *, machines: int = 1, gpus: int = 0) -> None:
    """Print what a run of the recipe would do and cost; the errors are those of the run.

    With `gpus`, also what it would need on `machines` with that many GPUs each: see `scaled`.
    """
    if gpus:
        check_share(recipe.data.batch_size, machines, gpus)
    join(recipe)
    trained = [name for name, t in recipe.all_teachers.items() if has_weights(t.weights)]
    first = teacher_recipes(recipe, named=True)
    job = build(recipe, teacher_weights=trained)
    starts = start_notes(job)  # on the CPU, as the job is now
    runtime, splits = Runtime(job, accelerator_for(job)), job.splits
    console.quiet = not runtime.accelerator.is_main_process
    rule(console, f"{recipe.name}: dry run")
    say(console, f"device: {describe(runtime)}")
    held_out = f"{len(splits.validation):,} validation, " if splits.validation else ""
    sizes = f"{len(splits.train):,} training, {held_out}{len(splits.test):,} test"
    name = recipe.data.component.use
    say(
        console,
        f"data: {name}, {job.data.input}, {counted_outputs(job.task, job.classes)}: {sizes}",
    )
    if manner := manner_in_words(recipe.plain()):
        say(console, f"trained: {manner}")
    for note in (*job.data.notes, *job.notes):
        say(console, f"note: {note}")
    _print_student(job, console)
    for note in starts:
        say(console, f"note: {note}")
    for name in job.teachers:
        _print_teacher(job, name, first.get(name), console)
    _print_features(job, console)
    memos = plan_memos(runtime, lambda note: say(console, f"note: {note}"))
    for name, memo in memos.items():
        heading = f"memo of {job.teachers[name].role}" if len(job.teachers) > 1 else "memo"
        show(memo, console, f"{heading}: ", trained=name in trained)
    if recipe.data.workers == "auto":
        say(console, f"note: {choose_workers(runtime, memos=memos)}")
    seconds = _print_stages(runtime, memos, console)
    training = sum(map(_training_of, first.values()))
    whom = "the teacher" if len(first) == 1 else f"{len(first)} teachers"
    before = f", after {in_time(training)} for {whom}" if first else ""
    cost = f"about {in_time(seconds)} of training{before}; {_memory(runtime)} of memory"
    say(console, f"cost: {cost}")
    if gpus:
        for line in scaled(_measured(runtime, memos, seconds), machines, gpus):
            say(console, line)
    error = job.rehearsal.float32.max_rel_error
    say(
        console,
        f"rehearsal: compressed, the student equals the compact network within {error:.1e} of "
        f"the largest logit; a run would write {recipe.run_dir}",
    )


def _measured(runtime: Runtime, memos: Mapping[str, Plan], seconds: float) -> Measured:
    recipe, counts = runtime.job.recipe, runtime.job.rehearsal.parameters
    epochs = sum(stage.stage.epochs for stage in runtime.job.stages)
    return Measured(
        seconds=seconds,
        steps=epochs * runtime.batches.steps,
        batch_size=runtime.batches.batch_size,
        compact=counts["compact"],
        trained=counts["trained"],
        slots=2 if "adam" in recipe.optimizer.component.use.lower() else 1,
        memo=sum(memo.size() for memo in memos.values()),
        checkpoints=-(-epochs // recipe.evaluate_every),
        kept=recipe.keep_checkpoints + 1,
        on_gpu=runtime.accelerator.device.type == "cuda",
    )


def _print_student(job: Job, console: Console) -> None:
    """Print each transform's plan, if it has one, and the parameters before and after."""
    student = build_student(job.recipe, job.data)
    for transform, part in zip(job.transforms, job.recipe.student.transforms, strict=True):
        if isinstance(transform, Planned):
            say(console, f"plan of {part.use}:")
            say(console, str(transform.plan(student)))
        student = transform.apply(student)
    name, counts = job.recipe.student.component.use, job.rehearsal.parameters
    trained = f"trained with {counts['trained']:,}"
    say(console, f"student: {name}, {counts['compact']:,} parameters, {trained}")


def _print_teacher(job: Job, name: str, first: Recipe | None, console: Console) -> None:
    section, teacher = job.recipe.all_teachers[name], job.teachers[name]
    path = section.file and section.file.path
    if first:
        source = f"no weights at {path} yet: {first.name} is run first"
    elif not has_weights(section.weights):
        source = f"no weights at {path}, and no `recipe:`: the run would stop here"
    elif path:
        source = f"weights of {path}"
    elif section.component.arguments.get("pretrained"):
        source = "published weights"
    else:
        source = "random values, as it has no `weights:`"
    if teacher.average:
        source = "the student's moving average"
    count = count_parameters(teacher.module)
    say(console, f"{teacher.role}: {section.component.use}, {count:,} parameters; {source}")
    say(console, f"{teacher.role} {seen_by(teacher)}")
    for note in teacher.notes:
        say(console, f"note: {note}")


def _print_features(job: Job, console: Console) -> None:
    """Print which features the losses read, with their shapes, and layouts if they were moved."""
    networks = [stage.objective.tapped for stage in job.stages]
    lines = [
        f"features of the student: {tapped.described()}" for tapped in networks if tapped.paths
    ]
    lines += [
        f"features of the {t.role}: {t.described()}" for t in job.teachers.values() if t.paths
    ]
    for line in dict.fromkeys(lines):
        say(console, line)


def _print_stages(runtime: Runtime, memos: Mapping[str, Plan], console: Console) -> float:
    """Try every stage, print what all of its epochs would cost, and return the seconds of all."""
    table = Table("stage", "losses", title="Stages", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("epochs", "steps", "ms/step", "img/s", "training"):
        table.add_column(heading, justify="right", no_wrap=True)
    total = 0.0
    for trial in trials(runtime, memos):
        stage, seconds, training = trial.stage, trial.seconds, trial.steps * trial.seconds
        total += training
        table.add_row(
            plain(console, stage.name + (f"\n+ {trial.source}" if trial.source else "")),
            plain(console, "\n+ ".join(t.shown for t in stage.losses)),
            f"{trial.epochs:.1f}".removesuffix(".0"),
            f"{trial.steps:,.0f}",
            f"{seconds * 1000:.1f}",
            f"{runtime.batches.batch_size / seconds:,.0f}",
            in_time(training),
        )
    for stage in runtime.job.stages:
        if stage.unused:
            say(
                console,
                f"{stage.stage.name}: its losses do not reach {len(stage.unused)} of the "
                f"trained tensors, such as {stage.unused[0]}",
            )
    console.print(table)
    return total


def _training_of(recipe: Recipe) -> float:
    """Return the seconds that the training of another recipe would take."""
    job = build(recipe, teacher_weights=False)
    runtime = Runtime(job, accelerator_for(job))
    return sum(trial.steps * trial.seconds for trial in trials(runtime, plan_memos(runtime)))


def _memory(runtime: Runtime) -> str:
    on_gpu = runtime.accelerator.device.type == "cuda"
    used = torch.cuda.max_memory_allocated() if on_gpu else peak()
    return f"{used / 2**30:.2f} GiB{' GPU' * on_gpu}" if used else "an unknown amount"
