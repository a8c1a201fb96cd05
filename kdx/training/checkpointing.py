"""When a run writes a checkpoint, and which ones it keeps."""

from pathlib import Path
from typing import Any

from kdx import checkpoints
from kdx.training.log import RunLog
from kdx.training.progress import Progress
from kdx.training.stage import EpochStats, StageRunner
from kdx.training.state import TrainState


class CheckpointManager:
    """Saves and prunes a run's checkpoints. `run` is what a resume compares (`kdx.run.resume`)."""

    def __init__(self, log: RunLog, run: dict[str, Any]) -> None:
        self.log, self.run = log, run
        self.saved = ""  # the name of the newest

    def save(self, runner: StageRunner, progress: Progress, stats: EpochStats) -> Path:
        """Save a checkpoint, unless this one is saved already; remove those that are not kept.

        All processes call it; it returns on all of them when it is on the disk. TrainingError,
        before anything is written, if a weight is NaN or Inf; OSError if the disk is full.
        """
        runtime = runner.runtime
        recipe = runtime.job.recipe
        place = recipe.run_dir / "checkpoints" / progress.name
        if self.saved == place.name:
            return place
        runner.check()
        with runtime.stop.patient():
            metrics = self.log.lines()
            state = TrainState.capture(runner, progress, stats, run=self.run, metrics=metrics)
            if runtime.accelerator.is_main_process:
                state.save(runtime.job)
                also = [progress.best_checkpoint]
                checkpoints.prune(place, keep=recipe.keep_checkpoints, also=also)
            self.saved = runtime.agree(place.name)  # no process continues, or ends, before that
        return place
