"""Everything that a run keeps: captured from live objects, written to checkpoints, and loaded.

Saving, resuming, forking and exporting from a checkpoint use `TrainState` only. The files are
listed in `kdx.checkpoints`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load as parsed
from safetensors.torch import save as serialised
from torch import Tensor, nn

from kdx import checkpoints
from kdx.checkpoints.packing import pack, unpack
from kdx.models import weights
from kdx.models.networks import facts
from kdx.models.transforms import apply_transforms, enter
from kdx.protocols import InputSpec, StudentTransform
from kdx.recipe import Recipe
from kdx.training.optimizers import load_optimizer
from kdx.training.progress import Progress
from kdx.training.ranks import load_rank, rank_state
from kdx.training.stage import EpochStats, StageRunner
from kdx.util.words import listed

STUDENT, ADAPTORS, AVERAGES, TRAINING = (
    f"{name}.safetensors" for name in ("student", "adaptors", "averages", "training")
)
STATE, RUN, METRICS = "state.json", "run.json", "metrics.jsonl"
BROKEN = (AttributeError, IndexError, KeyError, RecursionError, RuntimeError, SafetensorError,
          TypeError, ValueError)  # fmt: skip


@dataclass(frozen=True)
class TrainState:
    """The state of a run between two optimizer steps; `place` is the directory of its checkpoint.

    `student` has the transforms applied; `adaptors` belong to the losses of the stage, `averages`
    are those of the student, by the name of each. `training`
    holds "optimizer" ("state" and "groups"), fp16's "scaler", and "ranks": for each process its
    random generators, buffers and `EpochStats`. `run` is what a resume compares
    (`kdx.run.resume`), `metrics` the content of metrics.jsonl.
    """

    place: Path
    stage: str
    phase: str | None
    progress: Progress
    student: Mapping[str, Tensor]
    adaptors: Mapping[str, Tensor]
    averages: Mapping[str, Tensor]
    training: Mapping[str, Any]
    run: dict[str, Any]
    metrics: str

    @staticmethod
    def save(
        place: Path,
        runner: StageRunner,
        progress: Progress,
        stats: EpochStats,
        *,
        run: dict[str, Any],
        metrics: str,
    ) -> None:
        """Write the checkpoint of a run that trains; OSError if it cannot be written.

        All processes call it; the main one writes.
        """
        job, objective, stage = runner.runtime.job, runner.objective, runner.stage.stage
        optimizer, scaler = runner.optimizer.state_dict(), runner.runtime.accelerator.scaler
        training = {
            "optimizer": {"state": optimizer["state"], "groups": optimizer["param_groups"]},
            "scaler": scaler.state_dict() if scaler is not None else None,
            "ranks": gather_object([rank_state(objective, stats)]),
        }
        if not runner.runtime.accelerator.is_main_process:
            return
        plain, tensors = pack(training)
        about = {"input": job.data.input, "classes": job.classes}
        phases = [each.stage.phase for each in job.stages[: progress.stage + 1]]
        phase = next((each for each in reversed(phases) if each), None)  # which a stage may keep
        state = {"stage": stage.name, "phase": phase, "progress": asdict(progress)}
        files = {
            STUDENT: weights.serialise(objective.student, **about, extra=job.about),
            TRAINING: serialised(tensors),
            STATE: _json(state | {"training": plain}),
            RUN: _json(run),
            METRICS: metrics.encode(),
        }
        if adaptors := objective.adaptors.state_dict():
            files[ADAPTORS] = weights.serialise(adaptors, **about)
        if averages := _state_of(runner.runtime.averages):
            files[AVERAGES] = serialised(averages)
        checkpoints.save(place, files)

    @classmethod
    def read(cls, place: Path) -> "TrainState":
        """Read and verify a checkpoint; nothing in it is run.

        Raises ValueError for a path that is not a checkpoint, or one that is damaged.
        """
        files = checkpoints.read(place)
        try:
            state = json.loads(files[STATE])
            training = unpack(state["training"], parsed(files[TRAINING]))
            metrics = files[METRICS].decode()
            if not all("epoch" in json.loads(line) for line in metrics.splitlines()):
                raise ValueError(f"{METRICS} has a line without an epoch")
            return cls(
                place,
                str(state["stage"]),
                state["phase"],
                TypeAdapter(Progress).validate_json(json.dumps(state["progress"]), strict=True),
                parsed(files[STUDENT]),
                parsed(files[ADAPTORS]) if ADAPTORS in files else {},
                parsed(files[AVERAGES]) if AVERAGES in files else {},
                {part: training[part] for part in ("optimizer", "scaler", "ranks")},
                dict(json.loads(files[RUN])),
                metrics,
            )
        except BROKEN as error:
            raise _invalid(place, error) from error

    @classmethod
    def newest(cls, run_dir: Path) -> tuple["TrainState | None", list[str]]:
        """Read the newest intact checkpoint of a run; return it, and what is wrong with others.

        ValueError if there are checkpoints, but none is intact.
        """
        state, passed = checkpoints.newest(run_dir / "checkpoints", cls.read)
        if state is None and passed:
            raise ValueError(
                "\n  ".join([f"{run_dir}: no intact checkpoint:", *passed])
                + "\nRestore one from a backup, or start from scratch with --overwrite"
            )
        if state and (progress := state.progress).best_checkpoint:
            try:
                checkpoints.read(run_dir / "checkpoints" / progress.best_checkpoint)
            except ValueError as error:
                passed.append(f"the best epoch's checkpoint is lost, another is chosen: {error}")
                progress.forget_best()
                if not progress.step:  # the epoch that has just ended, or a later one
                    progress.best, progress.best_epoch = progress.last, progress.epochs
                    progress.best_checkpoint = progress.name
        return state, passed

    def load(self, runner: StageRunner) -> EpochStats:
        """Bring a stage to this state; return this process's statistics of the epoch.

        With another number of processes, the first one takes the sums of all. ValueError if
        anything does not fit; student and adaptors are checked before anything is changed.
        """
        objective, scaler = runner.objective, runner.runtime.accelerator.scaler
        averages = runner.runtime.averages
        problems = (
            misfits("student", objective.student.state_dict(), self.student),
            misfits("adaptors", objective.adaptors.state_dict(), self.adaptors),
            misfits("averages", _state_of(averages), self.averages),
        )
        if any(problems):
            raise ValueError(f"{self.place} does not fit: {'; '.join(filter(None, problems))}")
        try:
            weights.load_tensors(objective.student, self.student)
            weights.load_tensors(objective.adaptors, self.adaptors)
            self.load_averages(averages)
            optimizer = self.training["optimizer"]
            load_optimizer(runner.optimizer, optimizer["state"], optimizer["groups"])
            if scaler is not None and self.training["scaler"]:
                scaler.load_state_dict(self.training["scaler"])
            return load_rank(self.training["ranks"], runner)
        except BROKEN as error:
            raise _invalid(self.place, error) from error

    def load_averages(self, averages: Mapping[str, nn.Module]) -> None:
        """Load the averages of the student, which fit."""
        for name, average in averages.items():
            start, saved = f"{name}.", self.averages.items()
            found = {n.removeprefix(start): v for n, v in saved if n.startswith(start)}
            weights.load_tensors(average, found)

    def load_student(self, student: nn.Module) -> None:
        """Load the student's weights into a network; ValueError if they do not fit."""
        weights.load(student, self.place / STUDENT)

    def load_adaptors(self, adaptors: nn.Module) -> None:
        """Load the adaptors, if the checkpoint has any; ValueError if they do not fit."""
        if self.adaptors:
            weights.load(adaptors, self.place / ADAPTORS)

    def about(self) -> tuple[dict[str, Any], InputSpec]:
        """Return the metadata of the student's weights, and the input of the network.

        ValueError if kdx did not write the file.
        """
        path = self.place / STUDENT
        about, spec = weights.read_metadata(path), weights.read_spec(path)
        if about is None or spec is None:
            raise ValueError(f"{path}: no metadata of kdx, which would describe its input")
        return about, spec

    def build_compact(self, recipe: Recipe) -> nn.Module:
        """Return the compact student by its recipe, with its first weights."""
        about, spec = self.about()
        known = facts({"num_classes": about["classes"], **about["extra"].get("facts", {})}, spec)
        return recipe.student.component.build(**known)

    def build_student(self, recipe: Recipe) -> tuple[nn.Module, Sequence[StudentTransform]]:
        """Return the student by its recipe, with its transforms applied, and these.

        ValueError if the checkpoint does not fit the recipe.
        """
        _, spec = self.about()
        compact = self.build_compact(recipe)
        student, transforms = apply_transforms(recipe, compact, spec.shape)
        if misfits("student", student.state_dict(), self.student):
            student, transforms = apply_transforms(recipe, compact, spec.shape, as_0_1=True)
        enter(student, transforms, self.phase)
        self.load_student(student)
        return student, transforms


def _state_of(averages: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    states = {name: each.state_dict() for name, each in averages.items()}
    # Copies: tied weights share memory, and others may lie channels-last in it.
    return {
        f"{name}.{key}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, state in states.items()
        for key, value in state.items()
    }


def misfits(what: str, live: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> str:
    """Return which tensors of `what` differ in name or shape; empty if all are the same."""
    now, then = ({name: each.shape for name, each in state.items()} for state in (live, saved))
    bad = [name for name in now | then if now.get(name) != then.get(name)]
    return f"{what}: {len(bad)} tensors differ in name or shape: {listed(bad)}" if bad else ""


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _invalid(place: Path, error: Exception) -> ValueError:
    text = " ".join(str(error).split())
    return ValueError(f"{place}: not a valid kdx checkpoint ({type(error).__name__}: {text})")
