"""Going on with a run: which checkpoint, and whether it is still the same run."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kdx import checkpoints
from kdx.checkpoints import Saved
from kdx.data.digests import digest_of_images, digest_of_weights
from kdx.training.runtime import Runtime

__all__ = [
    "FREE",
    "Changes",
    "chosen",
    "circumstances",
    "compare",
    "compare_recipes",
    "find",
    "flat",
]

FREE = (
    "name", "processes", "threads", "compile", "channels_last", "tolerance", "select",
    "log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints", "skip_bad_steps",
    "train_metrics",
    "data.root", "data.workers", "teacher.weights", "teacher.recipe", "teacher.allow_chance",
    "teacher.memo.limit", "teacher.memo.directory",
)  # fmt: skip
"""Keys that may change: what they change is compared by itself, or is a matter of rounding."""

ADDED = {"data.label_noise": 0.0, "train_metrics": False}
"""Keys that older checkpoints lack, and the value that says what was done before there were any."""

SHOWN = 4  # tensors


def find(run_dir: Path) -> tuple[Saved | None, list[str]]:
    """Return the newest checkpoint that verifies, and what is wrong with newer ones.

    ValueError where there are checkpoints, but none of them can be used.
    """
    directory = run_dir / "checkpoints"
    saved, passed = checkpoints.newest(directory, Saved.of)
    if saved is None and passed:
        raise ValueError(
            "\n  ".join([f"{run_dir}: none of its checkpoints can be used:", *passed])
            + "\nRestore one from a backup, or pass --overwrite to start again"
        )
    if saved is not None and saved.progress.best_checkpoint:
        try:
            checkpoints.read(directory / saved.progress.best_checkpoint)
        except ValueError as error:
            passed.append(f"the best epoch's checkpoint is lost, another is chosen: {error}")
            saved.progress.lose_best()
    return saved, passed


def chosen(run_dir: Path, runtime: Runtime) -> tuple[Saved | None, list[str]]:
    """Return what `find` returns on the main process, on every process.

    ValueError where this process sees another checkpoint under that name.
    """
    main, directory = runtime.accelerator.is_main_process, run_dir / "checkpoints"
    saved, notes = find(run_dir) if main else (None, [])
    digest = checkpoints.digest_of(directory / saved.name) if saved else ""
    about = (saved.name, saved.progress, digest) if saved else None
    about, notes = runtime.agree((about, notes))
    if main or about is None:
        return saved, notes
    name, progress, digest = about
    place = directory / name
    if not place.is_dir() or checkpoints.digest_of(place) != digest:
        raise ValueError(f"{place}: not the checkpoint that the main process sees there")
    return replace(Saved.of(name, checkpoints.read(place)), progress=progress), notes


def circumstances(runtime: Runtime) -> dict[str, Any]:
    """Return what a run is trained by, as JSON holds it. Reads all images and the teacher."""
    job, recipe = runtime.job, runtime.job.recipe
    splits = {
        "train": job.splits.train,
        "validation": job.splits.validation,
        "test": job.splits.test,
    }
    found = {
        "recipe": flat(recipe.plain()),
        "processes": runtime.world,
        "steps an epoch": runtime.batches.steps,
        "data": {
            name: digest_of_images(split, times=False, labels=True)
            for name, split in splits.items()
            if split is not None
        },
        "input": asdict(job.data.input),
        "classes": list(job.data.classes),
        "student": {name: list(value.shape) for name, value in job.student.state_dict().items()},
        "teacher": digest_of_weights(job.teacher.module) if job.teacher else None,
        "precision": runtime.accelerator.mixed_precision,
        "device": runtime.accelerator.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return json.loads(json.dumps(found, default=str))


@dataclass(frozen=True)
class Changes:
    """What is not as it was: what cannot be gone on with, and what can."""

    refused: list[str]
    accepted: list[str]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Compare the circumstances of a checkpoint with those of now."""
    found = compare_recipes(old.get("recipe", {}), new["recipe"])
    refused, accepted = found.refused, found.accepted
    for name, _, _ in _differences(old.get("data", {}), new["data"]):
        refused.append(f"data: {name} images or labels changed")
    tensors = [
        f"student: {name} was {_said(before)}, now {_said(now)}"
        for name, before, now in _differences(old.get("student", {}), new["student"])
    ]
    more = [f"student: {len(tensors) - SHOWN} more"] if len(tensors) > SHOWN else []
    refused += tensors[:SHOWN] + more
    if old.get("teacher") != new["teacher"]:
        refused.append("teacher: its weights changed")
    for what in ("input", "classes", "steps an epoch", "precision"):
        if old.get(what) != new[what]:
            refused.append(f"{what}: was {old.get(what)}, now {new[what]}")
    for what in ("processes", "device", "threads", "torch"):
        if old.get(what) != new[what]:
            accepted.append(f"{what}: {old.get(what)}, now {new[what]}, which rounds otherwise")
    return Changes(refused, accepted)


def compare_recipes(
    old: Mapping[str, Any], new: Mapping[str, Any], *, free: Collection[str] = FREE
) -> Changes:
    """Compare two recipes, as `flat` returns them; a change of a key in `free` is accepted."""
    changes = Changes([], [])
    for key, before, now in _differences(old, new):
        if key in ("processes", "threads"):  # what there really are is no matter of the recipe
            continue
        if before is _ABSENT and now == ADDED.get(key, _ABSENT):
            continue
        accepted = any(key == each or key.startswith(f"{each}.") for each in free)
        line = f"{key}: {_said(before)}, now {_said(now)}"
        (changes.accepted if accepted else changes.refused).append(line)
    return changes


def flat(value: Any) -> dict[str, Any]:
    """Return the leaves of nested mappings and lists by dotted paths, as JSON holds them."""
    return json.loads(json.dumps(dict(_leaves(value, "")), default=str))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    parts = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list)
        else None
    )  # fmt: skip
    if not parts:
        yield path, value
        return
    for key, part in parts:
        yield from _leaves(part, f"{path}.{key}" if path else str(key))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in [*new, *(key for key in old if key not in new)]:
        if key not in old or key not in new or old[key] != new[key]:
            yield key, old.get(key, _ABSENT), new.get(key, _ABSENT)


_ABSENT = object()


def _said(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
