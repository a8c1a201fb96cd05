"""The checkpoints of a run that trains: what goes into one, and which are kept."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from kdx import checkpoints
from kdx.checkpoints import Progress, Saved
from kdx.checkpoints.capture import optimizer_state, rank_state, restore, restore_rank
from kdx.models import weights
from kdx.training.log import RunLog
from kdx.training.runtime import Runtime
from kdx.training.stage import EpochStats, StageRunner

__all__ = ["CheckpointManager"]


class CheckpointManager:
    """Saves and restores a run's training. `run` is what a resume compares (`kdx.run.resume`)."""

    def __init__(self, runtime: Runtime, log: RunLog, run: dict[str, Any]) -> None:
        self.runtime, self.log, self.run = runtime, log, run
        self.directory = runtime.job.recipe.run_dir / "checkpoints"
        self.saved: str | None = None

    def save(self, runner: StageRunner, progress: Progress, stats: EpochStats) -> Path:
        """Save a checkpoint of this place, unless there is one; remove those that are not kept.

        All processes call it; it returns on all of them when it is on the disk. TrainingError,
        before anything is written, where a weight is no number; OSError where the disk is full.
        """
        place = self.directory / progress.name
        if self.saved == place.name:
            return place
        runner.check()
        with self.runtime.stop.patient():
            ranks = gather_object([rank_state(runner.objective, vars(stats))])
            if self.runtime.accelerator.is_main_process:
                checkpoints.save(self.directory, place.name, self._files(runner, progress, ranks))
                keep = self.runtime.job.recipe.keep_checkpoints
                also = [progress.best_checkpoint] if progress.best_checkpoint else []
                checkpoints.prune(self.directory, place.name, keep=keep, also=also)
            # Nobody goes on, or ends, before it is written.
            self.saved = self.runtime.agree(place.name)
        return place

    def restore(self, runner: StageRunner, saved: Saved) -> EpochStats:
        """Bring a stage to where a checkpoint was saved; return this process's tally of the epoch.

        Among another number of processes, the first takes what all had summed. ValueError where
        the checkpoint does not fit, or is not one of kdx for all its right checksums.
        """
        try:
            stats = self._restore(runner, saved)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
            said = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"checkpoint {saved.name}: not one of kdx, refused ({said})"
            ) from error
        self.saved = saved.name
        return stats

    def _restore(self, runner: StageRunner, saved: Saved) -> EpochStats:
        restore(
            saved,
            student=runner.objective.student,
            adaptors=runner.objective.adaptors,
            optimizer=runner.optimizer,
        )
        scaler = self.runtime.accelerator.scaler
        if scaler is not None and saved.training["scaler"]:
            scaler.load_state_dict(saved.training["scaler"])
        ranks, mine = saved.training["ranks"], self.runtime.rank
        same = len(ranks) == self.runtime.world
        restore_rank(ranks[mine if same else 0], runner.objective, generators=same or not mine)
        tallies = [EpochStats(**state["tally"]) for state in ranks]
        stats = tallies[mine] if same else _together(tallies, first=mine == 0)
        device = self.runtime.accelerator.device
        stats.sums = {name: value.to(device) for name, value in stats.sums.items()}
        return stats

    def _files(
        self, runner: StageRunner, progress: Progress, ranks: list[dict[str, Any]]
    ) -> dict[str, bytes]:
        job, objective = self.runtime.job, runner.objective
        scaler = self.runtime.accelerator.scaler
        about = {"input": job.data.input, "classes": job.classes}
        owned = objective.adaptors.state_dict()
        return checkpoints.capture(
            progress,
            stage=runner.stage.stage.name,
            phase=runner.stage.stage.phase,
            student=weights.serialise(objective.student, **about, extra=job.about),
            adaptors=weights.serialise(owned, **about) if owned else None,
            training={
                "optimizer": optimizer_state(runner.optimizer),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "ranks": ranks,
            },
            run=self.run,
            metrics=self.log.lines(),
        )


def _together(tallies: list[EpochStats], *, first: bool) -> EpochStats:
    """Return what all had summed, for the first process, and the counts that are all processes'."""
    one = tallies[0]
    shared = EpochStats(
        samples=one.samples, seconds=one.seconds, skipped=one.skipped, in_row=one.in_row
    )
    sums = {name: torch.stack([t.sums[name] for t in tallies]).sum(0) for name in one.sums}
    shared.sums = sums if first else {name: torch.zeros_like(v) for name, v in sums.items()}
    shared.seen = sum(t.seen for t in tallies) if first else 0
    return shared
