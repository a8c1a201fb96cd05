"""Resuming a run: which checkpoint, and whether it is still the same run."""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kdx import checkpoints
from kdx.data.digests import digest_of_images, digest_of_weights
from kdx.data.splits import Splits
from kdx.launch.machines import bring
from kdx.recipe import Recipe
from kdx.recipe.resuming import ABSENT, flat, resume_rule
from kdx.training.job import Job
from kdx.training.runtime import Runtime
from kdx.training.state import TrainState

SHOWN = 4  # tensors


@dataclass(frozen=True)
class Changes:
    """The differences between two runs: those that forbid a resume, and the harmless ones."""

    refused: list[str]
    accepted: list[str]


def chosen(run_dir: Path, runtime: Runtime) -> tuple[TrainState | None, list[str]]:
    """Return on every process what `TrainState.newest` returns on the main one.

    ValueError if this process sees another checkpoint under that name.
    """
    main = runtime.accelerator.is_main_process
    saved, notes = TrainState.newest(run_dir) if main else (None, [])
    about = (saved.place.name, saved.progress, checkpoints.digest_of(saved.place)) if saved else ()
    about, notes = runtime.agree((about, notes))
    if about:
        name, progress, digest = about
        bring([place := run_dir / "checkpoints" / name])
        if not main:
            check_digest(place, digest)
            saved = replace(TrainState.read(place), progress=progress)
    return saved, notes


def check_digest(place: Path, digest: str) -> None:
    """Raise ValueError if a checkpoint is not the one that the main process reads."""
    if not place.is_dir() or checkpoints.digest_of(place) != digest:
        raise ValueError(f"{place}: not the checkpoint that the main process sees there")


def circumstances(runtime: Runtime) -> dict[str, Any]:
    """Return what determines a run, as JSON holds it. Reads all images and the teacher."""
    job, recipe = runtime.job, runtime.job.recipe
    found = {
        "recipe": flat(recipe.portable()),
        "processes": runtime.world,
        "steps an epoch": runtime.batches.steps,
        "data": digests_of(job.splits),
        "input": asdict(job.data.input),
        "classes": list(job.data.classes),
        "student": {name: list(value.shape) for name, value in job.student.state_dict().items()},
        "teacher": _digests(job),
        "precision": runtime.accelerator.mixed_precision,
        "device": runtime.accelerator.device.type,
        "threads": torch.get_num_threads(),
        "workers": runtime.loading["workers"],
        "torch": torch.__version__,
    }
    return json.loads(json.dumps(found, default=str))


def digests_of(splits: Splits) -> dict[str, str]:
    """Return the digests of the splits' images and labels, by name."""
    every = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        name: digest_of_images(source, times=False, labels=True)
        for name, source in every.items()
        if source is not None
    }


def _digests(job: Job) -> str | dict[str, str] | None:
    """Return the digest of the teacher, None without one, and of several by name."""
    every = {n: digest_of_weights(t.module) for n, t in job.teachers.items() if not t.average}
    return every if job.recipe.teachers else every.get("teacher")


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Compare the circumstances of a checkpoint with the current ones."""
    found = compare_recipes(old.get("recipe", {}), new["recipe"])
    data = _differences(old.get("data", {}), new["data"])
    found.refused.extend(f"data: {name} images or labels changed" for name, _, _ in data)
    tensors = list(_differences(old.get("student", {}), new["student"]))
    for name, before, now in tensors[:SHOWN]:
        found.refused.append(f"student: {name} was {_shown(before)}, now {_shown(now)}")
    if len(tensors) > SHOWN:
        found.refused.append(f"student: {len(tensors) - SHOWN} more")
    if any(now is ABSENT and ".factors." in name for name, _, now in tensors):
        was = "kdx 0.1 expanded 1x1 convolutions by default: for such a run"
        found.refused.append(f"student: {was} set student.transforms.0.pointwise=expand")
    if old.get("teacher") != new["teacher"]:
        found.refused.append("teacher: its weights changed")
    for what in ("input", "classes", "steps an epoch", "precision"):
        if old.get(what) != new[what]:
            found.refused.append(f"{what}: was {old.get(what)}, now {new[what]}")
    for what in ("processes", "device", "threads", "torch"):
        if old.get(what) != new[what]:
            changed = f"{what}: {old.get(what)}, now {new[what]}"
            found.accepted.append(f"{changed} (may round differently)")
    return found


def compare_recipes(
    old: Mapping[str, Any], new: Mapping[str, Any], *, equal: Collection[str] = ()
) -> Changes:
    """Compare two recipes, as `flat` returns them, by what each key means for a resume.

    The keys in `equal` must be equal, whatever they mean.
    """
    changes = Changes([], [])
    for key, before, now in _differences(old, new):
        rule = resume_rule(key, Recipe)
        # What really runs is compared instead of the first two.
        if key in ("processes", "threads") or (before is ABSENT and now == rule.absent):
            continue
        if _same_path(before, now):
            continue
        accepted = rule.may_differ and key not in equal
        line = f"{key}: {_shown(before)}, now {_shown(now)}"
        (changes.accepted if accepted else changes.refused).append(line)
    return changes


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in {**new, **old}:
        before, now = old.get(key, ABSENT), new.get(key, ABSENT)
        if before is ABSENT or now is ABSENT or (before != now and _shown(before) != _shown(now)):
            yield key, before, now


def _same_path(*values: Any) -> bool:
    """Return whether values are a path from here and the absolute one, as a run's recipe has it."""
    if not all(isinstance(value, str) for value in values) or not any(map(os.path.isabs, values)):
        return False
    return os.path.realpath(values[0]) == os.path.realpath(values[1])


def _shown(value: Any) -> str:
    return "absent" if value is ABSENT else json.dumps(value)
