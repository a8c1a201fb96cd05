"""Training: all stages, epoch by epoch, from the start or from a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import torch

from kdx import checkpoints
from kdx.data.counter import seed_python_and_numpy
from kdx.recipe import Stage
from kdx.recipe.stages import LossTerm
from kdx.tasks import primary_metric
from kdx.training.log import RunLog
from kdx.training.progress import Progress
from kdx.training.runtime import Runtime
from kdx.training.stage import EpochStats, StageRunner
from kdx.training.stage_jobs import StageJob
from kdx.training.state import TrainState
from kdx.util.errors import Stopped
from kdx.util.garbage import collect_as_usual
from kdx.util.printing import say
from kdx.util.words import counted


def fit(
    runtime: Runtime,
    log: RunLog,
    *,
    run: dict[str, Any] | None = None,
    saved: TrainState | None = None,
    begin: Callable[[StageRunner], list[str]] | None = None,
) -> Progress:
    """Train all stages, or what is left of them after `saved`; return the final progress.

    Evaluates, logs and checkpoints. `run` is saved in the checkpoints, for a resume to compare.
    `begin` is called with the first stage's runner, unless the run is resumed; it returns notes
    to print. Raises Stopped, with the checkpoint to resume from, after a signal.
    """
    progress = saved.progress if saved else Progress()
    trainer = _Trainer(runtime, log, progress, run or {}, saved, begin)
    collect_as_usual()
    with runtime.stop:
        trainer.run()
    return progress


@dataclass
class _Trainer:
    """A run that trains. `saved` is the checkpoint to resume from, until it is loaded.

    `newest` is the name of the last checkpoint, `phase` the one that the transforms are in.
    """

    runtime: Runtime
    log: RunLog
    progress: Progress
    about: dict[str, Any]
    saved: TrainState | None
    begin: Callable[[StageRunner], list[str]] | None
    stats: EpochStats = field(default_factory=EpochStats)
    phase: str | None = None
    newest: str = ""

    def run(self) -> None:
        """Train what is left of the stages."""
        runtime = self.runtime
        runtime.compile()
        if runtime.rank:  # each process draws its own numbers, for dropout and plug-ins
            own = runtime.job.recipe.seed + 2**32 * runtime.rank
            torch.manual_seed(own)
            seed_python_and_numpy(own)
        if self.saved:
            self.log.resume(self.saved.metrics)
        for index, stage in enumerate(runtime.job.stages):
            phase = stage.stage.phase
            runtime.job.enter(phase)
            if phase and phase != self.phase:
                self.phase = phase
                if not self.saved:  # the function changes: forget the best epoch so far
                    self.progress.forget_best()
            if index >= self.progress.stage:
                self._stage(stage)

    def _stage(self, stage: StageJob) -> None:
        runner, progress = StageRunner(self.runtime, stage), self.progress
        if self.saved:
            self.stats = self.saved.load(runner)
            self.newest, self.saved = self.saved.place.name, None
        elif progress.stage:
            _carry(self.runtime.job.stages[progress.stage - 1], stage)
        elif self.begin:
            for note in self.begin(runner):
                say(self.log.console, f"note     {note}")
        try:
            while progress.epoch < stage.stage.epochs and not progress.stopped_early:
                self._epoch(runner)
        except Stopped:
            if progress.epochs or progress.step:
                raise Stopped(self._save(runner)) from None
            raise
        runner.finish()
        progress.stage, progress.epoch, progress.waited = progress.stage + 1, 0, 0

    def _epoch(self, runner: StageRunner) -> None:
        progress, stage, recipe = self.progress, runner.stage.stage, self.runtime.job.recipe
        trained = runner.run(
            progress.epochs,
            progress.epoch,
            self.log,
            stats=self.stats,
            first_step=progress.step,
            after=lambda step: self._after(runner, step),
        )
        number = progress.epochs + 1
        due = number % recipe.evaluate_every == 0 or progress.epoch + 1 == stage.epochs
        evaluated = self._evaluate(number) if due else {}
        progress.seconds += trained["seconds"]
        progress.images += self.runtime.batches.samples
        progress.epochs, progress.epoch, progress.step = number, progress.epoch + 1, 0
        self.stats = EpochStats(skipped=self.stats.skipped, in_row=self.stats.in_row)
        self.log.epoch(number, stage.name, trained | evaluated)
        if due:
            self._end_early(stage)
            self._save(runner)

    def _end_early(self, stage: Stage) -> None:
        """End the run if the last stage has not improved for `patience` evaluated epochs."""
        progress, job = self.progress, self.runtime.job
        last, patience = progress.stage + 1 == len(job.stages), job.recipe.patience
        if not (last and patience) or progress.waited < patience:
            return
        if progress.epoch < stage.epochs:
            heading = job.task.metrics[primary_metric(job.task)]
            progress.stopped_early = (
                f"after epoch {progress.epochs}; validation {heading} has not improved in "
                f"{counted(patience, 'evaluation')} (patience) since epoch {progress.best_epoch}"
            )
            say(self.log.console, f"stopped  {progress.stopped_early}")

    def _after(self, runner: StageRunner, step: int) -> None:
        """After each step: stop if asked to, save if the recipe says so."""
        self.progress.step = step
        if self.runtime.stop.agreed():
            raise Stopped
        every = self.runtime.job.recipe.checkpoint_every
        if every and step % every == 0 and step < self.runtime.batches.steps:
            self._save(runner)

    def _save(self, runner: StageRunner) -> Path:
        """Save a checkpoint, unless this one is saved already; remove those that are not kept.

        All processes call it; it returns on all of them when it is on the disk. TrainingError,
        before anything is written, if a weight is NaN or Inf; OSError if the disk is full.
        """
        runtime, progress, recipe = self.runtime, self.progress, self.runtime.job.recipe
        place = recipe.run_dir / "checkpoints" / progress.name
        if self.newest == place.name:
            return place
        runner.health.check(runner.epoch + 1)
        runner.health.check_weights()
        with runtime.stop.patient():
            now, metrics = (place, runner, progress, self.stats), self.log.lines()
            TrainState.save(*now, run=self.about, metrics=metrics)
            if runtime.accelerator.is_main_process:
                also = [progress.best_checkpoint]
                checkpoints.prune(place, keep=recipe.keep_checkpoints, also=also)
            self.newest = runtime.agree(place.name)  # no process continues, or ends, before that
        return place

    def _evaluate(self, number: int) -> dict[str, float]:
        """Evaluate the student after an epoch; return its metrics by their names in the log.

        Progress changes when all is evaluated: the run may be stopped before that.
        """
        progress, runtime, job = self.progress, self.runtime, self.runtime.job
        runtime.share_buffers()
        split, source = runtime.evaluation_source()
        metrics, train, averaged = runtime.evaluate(job.student, source).metrics, {}, {}
        if job.recipe.train_metrics:
            train = runtime.evaluate(job.student, job.splits.train).metrics
        if runtime.average and runtime.average.n_averaged:
            averaged = runtime.evaluate(runtime.average.module, source).metrics
        progress.last, progress.train, progress.last_average = metrics, train, averaged
        first, progress.waited = primary_metric(job.task), progress.waited + 1
        better = averaged if runtime.prefers_average(metrics, averaged) else metrics
        if better[first] > progress.best.get(first, -inf):
            progress.best, progress.best_epoch, progress.waited = better, number, 0
            progress.best_is_average = better is averaged
            progress.best_checkpoint = f"epoch_{number:04d}"
        found = {split: metrics, f"{split}_average": averaged, "train": train}
        return {f"{on}/{key}": value for on, each in found.items() for key, value in each.items()}


def _carry(before: StageJob, after: StageJob) -> None:
    """Let losses that both stages have, by name, arguments and teacher, go on from where they were.

    Connectors and banks would otherwise be new in each stage.
    """
    had = {term.name: _learned(term) for term in before.stage.losses}
    for term in after.stage.losses:
        adaptors = before.objective.adaptors
        if term.name in adaptors and had[term.name] == _learned(term):
            after.objective.adaptors[term.name].load_state_dict(adaptors[term.name].state_dict())


def _learned(term: LossTerm) -> tuple[object, ...]:
    """Return what a loss's own parameters are of."""
    return term.component.use, term.component.arguments, term.teacher
