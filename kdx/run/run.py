"""The main job: from a recipe to a run directory with the compact student in it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from kdx import checkpoints
from kdx.launch.machines import bring, decided, on_main_machine
from kdx.launch.processes import join
from kdx.memo.plan import Plan
from kdx.memo.use import plan_memos, remembering
from kdx.models.weights import FILE_IN_RUN
from kdx.recipe import Recipe
from kdx.recipe.paths import RECIPE
from kdx.recipe.resuming import flat
from kdx.report.summary import read_summary
from kdx.run.directory import FORK, check_free, claimed, discard, is_finished, moved
from kdx.run.finish import finish
from kdx.run.fork import Fork, brought, check_origin, open_fork, recorded_origin
from kdx.run.printed import print_introduction
from kdx.run.resume import chosen, circumstances, compare
from kdx.run.teacher_run import check_teachers, teacher_recipes
from kdx.tasks import numbers_of, primary_metric
from kdx.training.job import build
from kdx.training.log import RunLog
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.state import TrainState
from kdx.training.trackers import check_installed
from kdx.training.tracking import Tracking
from kdx.training.trainer import fit
from kdx.training.workers import choose_workers
from kdx.util.errors import CertificateError, Stopped, TrainingError
from kdx.util.files import write_whole
from kdx.util.printing import say


def run(
    recipe: Recipe,
    console: Console,
    *,
    overwrite: bool = False,
    resume: bool = False,
    fork: Path | None = None,
) -> Path:
    """Train by the recipe and return the run directory.

    If the teacher has no weights yet and names a recipe, that one is run first. `resume` continues
    an existing run from its newest checkpoint, and leaves a finished one alone. `fork` starts from
    the student of another run, given by a checkpoint or by its directory; a resume does not fork
    again. A run that is overwritten is kept as <name>.replaced until the new one has succeeded.

    Raises ValueError for what does not fit or cannot be resumed; FileExistsError if the run
    directory is taken; Stopped after a signal; TrainingError if training diverges;
    CertificateError if the compact student differs (student.safetensors is not written then).
    """
    console.quiet |= not join(recipe)
    recipe, notes = moved(recipe, resume=resume, overwrite=overwrite)
    run_dir = recipe.run_dir
    recorded = run_dir / FORK
    again = decided(resume and checkpoints.any_at(run_dir))
    if decided(resume and is_finished(run_dir)):
        if on_main_machine():  # where its files are
            _check_finished(recipe, fork)
        say(console, f"{run_dir} is finished: nothing to do")
        return run_dir
    if on_main_machine():  # others may have copies of its checkpoints
        check_free(run_dir, resume=resume, overwrite=overwrite)
    check_installed(recipe.trackers)
    if origin := decided(recorded_origin(recorded) if resume else {}):
        check_origin(run_dir, fork, origin)
        if not again:  # ended before its first checkpoint
            fork = Path(origin["checkpoint"])
    if fork and not again:
        fork = brought(fork)
    source = open_fork(fork, recipe) if fork and not again else None
    ensure_teachers(recipe, console)
    load_compact = source.load_compact if source and source.compact else None
    job = build(recipe, load_compact=load_compact, student_weights=not again)
    runtime = Runtime(job, accelerator_for(job))
    memos = plan_memos(runtime, notes.append)
    main = runtime.accelerator.is_main_process
    saved, passed = chosen(run_dir, runtime) if resume else (None, [])
    notes += passed
    if source:
        source.load_student(runtime)
    if recipe.data.workers == "auto":
        before = saved.run.get("workers") if saved else None
        notes.append(choose_workers(runtime, before, memos=memos))
    about = circumstances(runtime) if main else {}
    if saved:
        check_origin(run_dir, fork, saved.run.get("forked_from", {}))
        notes += _check_same(recipe, saved, about) if main else []
        about |= {key: value for key, value in saved.run.items() if key == "forked_from"}
        notes.append(f"resumed from {saved.place.name}" + ("; not forked again" if fork else ""))
    elif source:
        notes += source.differences(about) if main else []
        about["forked_from"] = source.origin
    elif resume:
        notes.append("nothing to resume: started from scratch")
    with claimed(recipe, resume=resume, overwrite=overwrite) if main else nullcontext() as aside:
        if aside:
            notes.append(f"the existing run is kept as {aside} until this one has succeeded")
        if main and source:
            write_whole(recorded, json.dumps(source.origin, indent=2) + "\n")
        elif main and not saved:
            recorded.unlink(missing_ok=True)
        print_introduction(job, runtime, console, notes)
        try:
            _train(runtime, memos, console, about=about, saved=saved, source=source)
        except (CertificateError, TrainingError) as error:
            kept = f"; the run that it was to replace is kept in {aside}" if aside else ""
            raise type(error)(f"{error}{kept}") from error
        if aside and (note := discard(aside)):
            say(console, f"note     {note}")
    return run_dir


def _train(
    runtime: Runtime,
    memos: Mapping[str, Plan],
    console: Console,
    *,
    about: dict[str, Any],
    saved: TrainState | None,
    source: Fork | None,
) -> None:
    """Train, restore, certify and export into the claimed run directory."""
    job, recipe, main = runtime.job, runtime.job.recipe, runtime.accelerator.is_main_process
    teachers, epochs = check_teachers(runtime, console), sum(s.stage.epochs for s in job.stages)
    first = primary_metric(job.task)
    started = {"name": recipe.name, "config": about.get("recipe"), "resumed": saved is not None}
    tracking = Tracking(recipe.run_dir, recipe.trackers, console, **started) if main else None
    log = RunLog(
        recipe.run_dir, console, epochs=epochs, primary_metric=first, numbers=numbers_of(job.task),
        main=main, tracking=tracking,
    )  # fmt: skip
    with closing(log):
        with remembering(runtime, memos, console):
            begin = source.begin if source else None
            progress = fit(runtime, log, run=about, saved=saved, begin=begin)
        if recipe.select == "best" and progress.best_checkpoint:
            bring([place := recipe.run_dir / "checkpoints" / progress.best_checkpoint])
            best = TrainState.read(place)
            best.load_student(job.student)
            best.load_averages(runtime.averages)
        origin = about.get("forked_from", {}).get("checkpoint")
        if problems := finish(runtime, progress, log, teachers=teachers, forked_from=origin):
            raise CertificateError(f"{recipe.run_dir}: {'; '.join(problems)}; nothing was exported")
        log.finish()


def _check_finished(recipe: Recipe, fork: Path | None) -> None:
    """Raise ValueError if a finished run is another one than that to resume."""
    summary, last = read_summary(recipe.run_dir), None
    check_origin(recipe.run_dir, fork, {"checkpoint": summary.forked_from})
    with suppress(ValueError):  # no checkpoint is intact: none is needed
        last, _ = TrainState.newest(recipe.run_dir)
    if last:
        _check_same(recipe, last, last.run | {"recipe": flat(recipe.portable())})


def _check_same(recipe: Recipe, saved: TrainState, about: dict[str, Any]) -> list[str]:
    """Refuse to resume another run; return the harmless changes."""
    changes = compare(saved.run, about)
    if changes.refused:
        listed = "\n  ".join(changes.refused)
        raise ValueError(
            f"{recipe.run_dir}: cannot resume: the configuration changed:\n  {listed}\n"
            f"Revert these (the run's own {RECIPE} with --resume has none of them), pass "
            "--overwrite to start from scratch, or start a new run from it: "
            f"--fork {saved.place} name=..."
        )
    return [f"changed: {line}" for line in changes.accepted]


def ensure_teachers(recipe: Recipe, console: Console) -> None:
    """Run, or resume, the recipes of teachers without weights; errors of `teacher_recipes`."""
    files = list(_weight_files(recipe))
    bring(files)
    missing = teacher_recipes(recipe)
    if not missing:
        return
    # Mistakes in this recipe are found before a teacher is trained.
    trial = build(recipe, teacher_weights=False)
    plan_memos(Runtime(trial, accelerator_for(trial)))
    roles = {name: trial.teachers[name].role for name in missing}
    del trial  # its data and networks, while others are trained
    for name, first in missing.items():
        say(
            console,
            f"The {roles[name]} has no weights yet: training {first.name} first",
            style="bold",
        )
        try:
            run(first, console, resume=decided(first.run_dir.exists()))
        except Stopped as stopped:
            stopped.of_teacher = True
            raise
        except (CertificateError, TrainingError) as error:
            where = f"in the training of the {roles[name]}"
            raise type(error)(f"{error}; {where} (`kdx distill {first.locations.file}`)") from error
    bring(files)


def _weight_files(recipe: Recipe) -> Iterator[Path]:
    """Yield the files of the teachers' weights, which may be of runs that have not been trained."""
    for teacher in recipe.all_teachers.values():
        if teacher.file:
            path = Path(teacher.file.path)
            yield path if decided(path.is_file()) else path / FILE_IN_RUN
