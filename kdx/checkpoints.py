"""Checkpoints: complete ones only, and no pickle.

checkpoints/epoch_0007/student.safetensors   the student with its transforms applied
                       adaptors.safetensors  what losses own; absent where they own nothing
                       state.json            epoch, stage, phase, metrics
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdx import weights
from kdx.objective import Objective
from kdx.protocols import InputSpec

__all__ = ["Checkpoint", "prune", "save", "state_of"]

STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself. `epoch` counts from 1 over all stages."""

    epoch: int
    stage: str
    phase: str | None
    metrics: Mapping[str, float]


def save(
    directory: Path,
    objective: Objective,
    state: Checkpoint,
    *,
    input: InputSpec,
    classes: int,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint beside its place, then rename it there; return its path."""
    place = directory / f"epoch_{state.epoch:04d}"
    staging = directory / f".{place.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    student = staging / weights.FILE_IN_RUN
    weights.save(objective.student, student, input=input, classes=classes, extra=extra)
    if objective.adaptors.state_dict():
        adaptors = staging / "adaptors.safetensors"
        weights.save(objective.adaptors, adaptors, input=input, classes=classes)
    (staging / STATE).write_text(json.dumps(asdict(state), indent=2) + "\n")
    shutil.rmtree(place, ignore_errors=True)
    staging.rename(place)
    return place


def prune(directory: Path, keep: set[Path]) -> None:
    """Remove every checkpoint that is not in `keep`."""
    for path in directory.glob("epoch_*"):
        if path not in keep:
            shutil.rmtree(path)


def state_of(checkpoint: Path) -> Checkpoint:
    """Read a checkpoint's state.

    ValueError where it is not a checkpoint of kdx; it lists those in the same run.
    """
    path = checkpoint / STATE
    if not path.is_file():
        near = ", ".join(map(str, _near(checkpoint)))
        there = f". There are: {near}" if near else ", and there is none near it"
        raise ValueError(f"{checkpoint} is no checkpoint{there}")
    try:
        return Checkpoint(**json.loads(path.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the state of a checkpoint: {error}") from error


def _near(path: Path) -> list[Path]:
    """List the checkpoints that may be meant by a path that is none, in order."""
    places = (path, path.parent, path / "checkpoints", path.parent / "checkpoints")
    found = (state for place in places for state in place.glob(f"epoch_*/{STATE}"))
    return sorted({state.parent for state in found})
