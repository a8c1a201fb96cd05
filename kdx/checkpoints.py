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

from kdx import weights
from kdx.objective import Objective
from kdx.protocols import InputSpec

__all__ = ["Checkpoint", "newest", "prune", "save", "state_of"]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself. `epoch` counts from 1 over all stages."""

    epoch: int
    stage: str
    phase: str | None
    metrics: Mapping[str, float]


def save(
    directory: Path, objective: Objective, state: Checkpoint, *, input: InputSpec, classes: int
) -> Path:
    """Write a checkpoint beside its place, then rename it there; return its path."""
    place = directory / f"epoch_{state.epoch:04d}"
    staging = directory / f".{place.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    weights.save(objective.student, staging / "student.safetensors", input=input, classes=classes)
    if objective.adaptors.state_dict():
        adaptors = staging / "adaptors.safetensors"
        weights.save(objective.adaptors, adaptors, input=input, classes=classes)
    (staging / "state.json").write_text(json.dumps(asdict(state), indent=2) + "\n")
    shutil.rmtree(place, ignore_errors=True)
    staging.rename(place)
    return place


def newest(directory: Path) -> Path | None:
    """Return the newest checkpoint in `directory`; None where there is none."""
    return max(directory.glob("epoch_*"), default=None)


def prune(directory: Path, keep: set[Path]) -> None:
    """Remove every checkpoint that is not in `keep`."""
    for path in directory.glob("epoch_*"):
        if path not in keep:
            shutil.rmtree(path)


def state_of(checkpoint: Path) -> Checkpoint:
    """Read a checkpoint's state; ValueError where it is not a checkpoint of kdx."""
    path = checkpoint / "state.json"
    try:
        return Checkpoint(**json.loads(path.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint}: not a checkpoint: state.json: {error}") from error
