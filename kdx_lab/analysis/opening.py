"""A finished run opened again: its networks, its data, and the checkpoints that it kept."""

import re
from dataclasses import dataclass
from pathlib import Path

from kdx.training.job import Job, StageJob, build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.state import TrainState
from kdx_lab.analysis.runs import Run

__all__ = ["Opened", "kept_epochs", "open_run"]

_EPOCH = re.compile(r"epoch_(\d+)")


@dataclass(frozen=True)
class Opened:
    """A run's job, on its device, in float32 and in one process; nothing of the run is written."""

    run: Run
    runtime: Runtime

    @property
    def job(self) -> Job:
        """Data, networks and objectives."""
        return self.runtime.job

    def load(self, checkpoint: Path) -> tuple[StageJob, int]:
        """Bring student and adaptors to a checkpoint; return the stage it is of, and the epoch.

        The epoch counts from 0, over all stages. ValueError for a checkpoint that is damaged, or
        does not fit the recipe.
        """
        state = TrainState.read(checkpoint)
        stages = self.job.stages[: state.progress.stage + 1]
        for stage in stages:
            self.job.enter(stage.stage.phase)
        state.load_student(self.job.student)
        state.load_adaptors(stages[-1].objective.adaptors)
        return stages[-1], state.progress.epochs - 1


def open_run(run: Run) -> Opened:
    """Build what a run was trained with, the teacher included.

    Raises ValueError where data, teacher or plug-ins are not there any more, and for several
    processes.
    """
    student = run.recipe.student.model_copy(update={"weights": None})  # a checkpoint's will do
    changes = {"student": student, "precision": "no", "processes": None, "compile": False}
    job = build(run.recipe.model_copy(update=changes))
    runtime = Runtime(job, accelerator_for(job))
    if runtime.world > 1:
        raise ValueError(
            f"{runtime.world} processes: an analysis runs in one, by python tools/analyze.py"
        )
    for stage in job.stages:
        stage.objective.to(runtime.accelerator.device)
    return Opened(run, runtime)


def kept_epochs(run: Run) -> dict[int, Path]:
    """Return the checkpoints at ends of epochs that a run kept, by the epoch, from 1 on.

    ValueError where there is none.
    """
    directory = run.path / "checkpoints"
    named = ((path, _EPOCH.fullmatch(path.name)) for path in directory.glob("epoch_*"))
    found = {int(name[1]): path for path, name in named if name}
    if not found:
        raise ValueError(
            f"{directory}: no checkpoint at the end of an epoch: train the run with "
            "`keep_checkpoints: 1` or more, and leave its checkpoints there"
        )
    return dict(sorted(found.items()))
