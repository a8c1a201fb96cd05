"""Training: all stages, epoch by epoch, from the start or from a checkpoint."""

from typing import Any

import torch

from kdx.checkpoints import Progress, Saved
from kdx.launch.stopping import Stopped
from kdx.tasks import headline
from kdx.training.checkpointing import Keeper
from kdx.training.job import StageJob
from kdx.training.log import RunLog
from kdx.training.runtime import Loop
from kdx.training.stage import StageRunner
from kdx.training.tally import Tally

__all__ = ["fit"]


def fit(
    loop: Loop, log: RunLog, *, run: dict[str, Any] | None = None, saved: Saved | None = None
) -> Progress:
    """Train all stages, from `saved` on where given; evaluate, log and checkpoint. Return the end.

    `run` is put into the checkpoints, for a resume to compare. Raises Stopped, with the
    checkpoint to go on from, where a signal asks for it.
    """
    fitting = _Fitting(loop, log, Keeper(loop, log, run or {}), saved)
    with loop.stop:
        fitting.run()
    return fitting.progress


class _Fitting:
    """Training under way. `saved` is the checkpoint to go on from, until it is restored."""

    def __init__(self, loop: Loop, log: RunLog, keeper: Keeper, saved: Saved | None) -> None:
        self.loop, self.log, self.keeper, self.saved = loop, log, keeper, saved
        self.progress = saved.progress if saved else Progress()
        self.tally = Tally()
        self.phase: str | None = None

    def run(self) -> None:
        """Train what is left of the stages."""
        loop = self.loop
        loop.compile()
        if loop.rank:  # processes draw their dropout apart
            torch.manual_seed(loop.job.recipe.seed + 2**32 * loop.rank)
        if self.saved:
            self.log.go_on(self.saved.metrics)
        for index, stage in enumerate(loop.job.stages):
            self._enter(stage)
            if index >= self.progress.stage:
                self._stage(stage)

    def _enter(self, stage: StageJob) -> None:
        phase = stage.stage.phase
        self.loop.job.enter(phase)
        if phase and phase != self.phase:
            self.phase = phase
            if not self.saved:  # another function: the best epoch so far is not its
                self.progress.forget_best()

    def _stage(self, stage: StageJob) -> None:
        runner = StageRunner(self.loop, stage)
        if self.saved:
            self.tally, self.saved = self.keeper.restore(runner, self.saved), None
        try:
            while self.progress.epoch < stage.stage.epochs:
                self._epoch(runner)
        except Stopped as stopped:
            if self.progress.epochs or self.progress.step:
                raise Stopped(self.keeper.save(runner, self.progress, self.tally)) from None
            raise stopped
        runner.finish()
        self.progress.stage, self.progress.epoch = self.progress.stage + 1, 0

    def _epoch(self, runner: StageRunner) -> None:
        progress, stage, recipe = self.progress, runner.stage.stage, self.loop.job.recipe
        trained = runner.run(
            progress.epochs,
            progress.epoch,
            self.log,
            tally=self.tally,
            first_step=progress.step,
            after=lambda step: self._after(runner, step),
        )
        number = progress.epochs + 1
        due = number % recipe.evaluate_every == 0 or progress.epoch + 1 == stage.epochs
        named = self._evaluate(number) if due else {}
        progress.seconds += trained["seconds"]
        progress.images += self.loop.batches.samples
        progress.epochs, progress.epoch, progress.step = number, progress.epoch + 1, 0
        self.tally = self.tally.of_next_epoch()
        self.log.epoch(number, stage.name, trained | named)
        if due:
            self.keeper.save(runner, progress, self.tally)

    def _after(self, runner: StageRunner, step: int) -> None:
        """After a step: stop where that was asked for, save where the recipe says so."""
        self.progress.step = step
        if self.loop.stop.agreed():
            raise Stopped
        every = self.loop.job.recipe.checkpoint_every
        if every and step % every == 0 and step < self.loop.batches.steps:
            self.keeper.save(runner, self.progress, self.tally)

    def _evaluate(self, number: int) -> dict[str, float]:
        """Evaluate the epoch's student; return its metrics by the name that they are logged by.

        Nothing is noted before all is evaluated: a run may be stopped in between.
        """
        progress, loop, job = self.progress, self.loop, self.loop.job
        loop.share_buffers()
        name, source = loop.evaluation_source()
        metrics, train = loop.evaluate(job.student, source).metrics, {}
        if job.recipe.train_metrics:
            train = loop.evaluate(job.student, job.splits.train).metrics
        progress.last, progress.train = metrics, train
        first = headline(job.task)
        if metrics[first] > progress.best.get(first, -1.0):
            progress.best, progress.best_epoch = metrics, number
            progress.best_checkpoint = f"epoch_{number:04d}"
        found = {name: metrics, "train": train}
        return {f"{on}/{key}": value for on, said in found.items() for key, value in said.items()}
