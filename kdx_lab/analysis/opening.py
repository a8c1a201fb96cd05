"""Reopening a finished run: its networks, its data, and its checkpoints."""

import re
from dataclasses import dataclass
from pathlib import Path

from kdx.training.job import Job, build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage_jobs import StageJob
from kdx.training.state import TrainState
from kdx_lab.analysis.runs import Run

__all__ = ["Opened", "kept_epochs", "open_run"]

_EPOCH = re.compile(r"epoch_(\d+)")


@dataclass(frozen=True)
class Opened:
    """A run's job, on its device, in float32 and in one process."""

    run: Run
    runtime: Runtime

    @property
    def job(self) -> Job:
        """Data, networks and objectives."""
        return self.runtime.job

    def load(self, checkpoint: Path) -> tuple[StageJob, int]:
        """Load networks, adaptors and averages from a checkpoint; return its stage and epoch.

        The epoch counts from 0, over all stages. ValueError if the checkpoint is damaged, or does
        not fit the recipe.
        """
        state = TrainState.read(checkpoint)
        stages = self.job.stages[: state.progress.stage + 1]
        for stage in stages:
            self.job.enter(stage.stage.phase)
        state.load_student(self.job.student)
        state.load_adaptors(stages[-1].objective.adaptors)
        state.load_averages(self.runtime.averages)  # they may teach
        stages[-1].objective.enter(state.progress.epoch - 1)
        return stages[-1], state.progress.epochs - 1


def open_run(run: Run) -> Opened:
    """Build the job of a run again, including the teacher.

    Raises ValueError if data, teacher or plug-ins are missing, and for several processes.
    """
    student = run.recipe.student.model_copy(update={"weights": None})  # a checkpoint has them
    changes = {"student": student, "precision": "no", "processes": None, "compile": False}
    job = build(run.recipe.model_copy(update=changes))
    runtime = Runtime(job, accelerator_for(job))
    if runtime.world > 1:
        raise ValueError(
            f"an analysis runs in one process, not {runtime.world}: start it without a launcher"
        )
    for stage in job.stages:
        stage.objective.to(runtime.accelerator.device)
    return Opened(run, runtime)


def kept_epochs(run: Run) -> dict[int, Path]:
    """Return a run's checkpoints at ends of epochs, by epoch from 1; ValueError if it has none."""
    directory = run.path / "checkpoints"
    named = ((path, _EPOCH.fullmatch(path.name)) for path in directory.glob("epoch_*"))
    found = {int(name[1]): path for path, name in named if name}
    if not found:
        raise ValueError(
            f"{directory}: no checkpoint of a whole epoch: train with `keep_checkpoints: 1` or "
            "more, and keep the checkpoints"
        )
    return dict(sorted(found.items()))
