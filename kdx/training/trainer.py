"""Training: all stages, epoch by epoch, from the start or from a checkpoint."""

from typing import Any

import torch

from kdx.checkpoints import Progress, Saved
from kdx.tasks import primary_metric
from kdx.training.checkpointing import CheckpointManager
from kdx.training.job import StageJob
from kdx.training.log import RunLog
from kdx.training.runtime import Runtime
from kdx.training.stage import EpochStats, StageRunner
from kdx.util.errors import Stopped

__all__ = ["fit"]


def fit(
    runtime: Runtime, log: RunLog, *, run: dict[str, Any] | None = None, saved: Saved | None = None
) -> Progress:
    """Train all stages, from `saved` on where given; evaluate, log and checkpoint. Return the end.

    `run` is put into the checkpoints, for a resume to compare. Raises Stopped, with the
    checkpoint to go on from, where a signal asks for it.
    """
    trainer = _Trainer(runtime, log, CheckpointManager(runtime, log, run or {}), saved)
    with runtime.stop:
        trainer.run()
    return trainer.progress


class _Trainer:
    """Training under way. `saved` is the checkpoint to go on from, until it is restored."""

    def __init__(
        self, runtime: Runtime, log: RunLog, manager: CheckpointManager, saved: Saved | None
    ) -> None:
        self.runtime, self.log, self.manager, self.saved = runtime, log, manager, saved
        self.progress = saved.progress if saved else Progress()
        self.stats = EpochStats()
        self.phase: str | None = None

    def run(self) -> None:
        """Train what is left of the stages."""
        runtime = self.runtime
        runtime.compile()
        if runtime.rank:  # processes draw their dropout apart
            torch.manual_seed(runtime.job.recipe.seed + 2**32 * runtime.rank)
        if self.saved:
            self.log.go_on(self.saved.metrics)
        for index, stage in enumerate(runtime.job.stages):
            self._enter(stage)
            if index >= self.progress.stage:
                self._stage(stage)

    def _enter(self, stage: StageJob) -> None:
        phase = stage.stage.phase
        self.runtime.job.enter(phase)
        if phase and phase != self.phase:
            self.phase = phase
            if not self.saved:  # another function: the best epoch so far is not its
                self.progress.forget_best()

    def _stage(self, stage: StageJob) -> None:
        runner = StageRunner(self.runtime, stage)
        if self.saved:
            self.stats, self.saved = self.manager.restore(runner, self.saved), None
        try:
            while self.progress.epoch < stage.stage.epochs:
                self._epoch(runner)
        except Stopped as stopped:
            if self.progress.epochs or self.progress.step:
                raise Stopped(self.manager.save(runner, self.progress, self.stats)) from None
            raise stopped
        runner.finish()
        self.progress.stage, self.progress.epoch = self.progress.stage + 1, 0

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
        named = self._evaluate(number) if due else {}
        progress.seconds += trained["seconds"]
        progress.images += self.runtime.batches.samples
        progress.epochs, progress.epoch, progress.step = number, progress.epoch + 1, 0
        self.stats = self.stats.of_next_epoch()
        self.log.epoch(number, stage.name, trained | named)
        if due:
            self.manager.save(runner, progress, self.stats)

    def _after(self, runner: StageRunner, step: int) -> None:
        """After a step: stop where that was asked for, save where the recipe says so."""
        self.progress.step = step
        if self.runtime.stop.agreed():
            raise Stopped
        every = self.runtime.job.recipe.checkpoint_every
        if every and step % every == 0 and step < self.runtime.batches.steps:
            self.manager.save(runner, self.progress, self.stats)

    def _evaluate(self, number: int) -> dict[str, float]:
        """Evaluate the epoch's student; return its metrics by the name that they are logged by.

        Nothing is noted before all is evaluated: a run may be stopped in between.
        """
        progress, runtime, job = self.progress, self.runtime, self.runtime.job
        runtime.share_buffers()
        name, source = runtime.evaluation_source()
        metrics, train = runtime.evaluate(job.student, source).metrics, {}
        if job.recipe.train_metrics:
            train = runtime.evaluate(job.student, job.splits.train).metrics
        progress.last, progress.train = metrics, train
        first = primary_metric(job.task)
        if metrics[first] > progress.best.get(first, -1.0):
            progress.best, progress.best_epoch = metrics, number
            progress.best_checkpoint = f"epoch_{number:04d}"
        found = {name: metrics, "train": train}
        return {f"{on}/{key}": value for on, said in found.items() for key, value in said.items()}
