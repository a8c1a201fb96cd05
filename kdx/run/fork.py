"""Forking a run: a new run that starts from another run's student."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdx import checkpoints
from kdx.launch.machines import bring, decided, is_alone
from kdx.models.transforms import restore
from kdx.models.weights import load_tensors
from kdx.recipe import Recipe, load
from kdx.recipe.resuming import flat
from kdx.run.resume import check_digest, compare
from kdx.training.optimizers import load_optimizer, rehearse
from kdx.training.runtime import Runtime
from kdx.training.stage import StageRunner
from kdx.training.state import TrainState, misfits


@dataclass(frozen=True)
class Fork:
    """A checkpoint of another run. `compact` are its restored weights, if the transforms differ.

    `notes` say which newer checkpoints are damaged.
    """

    state: TrainState
    compact: Mapping[str, Tensor] | None
    notes: list[str]

    @property
    def origin(self) -> dict[str, str]:
        """What the new run's checkpoints record as `forked_from`."""
        place = self.state.place
        return {"checkpoint": os.path.abspath(place), "sha256": checkpoints.digest_of(place)}

    def load_compact(self, network: nn.Module) -> None:
        """Load `compact`, if not None, into the network before any transform is applied."""
        assert self.compact is not None
        if problem := misfits("student", network.state_dict(), self.compact):
            raise ValueError(f"cannot fork {self.state.place}: {problem}")
        load_tensors(network, self.compact)

    def load_student(self, runtime: Runtime) -> None:
        """Load the expanded weights, unless the compact ones are loaded already.

        ValueError if they do not fit, or if the processes read different checkpoints.
        """
        check_digest(self.state.place, runtime.agree(self.origin["sha256"]))
        if self.compact is None:
            self.state.load_student(runtime.job.student)

    def differences(self, about: Mapping[str, Any]) -> list[str]:
        """Return notes: the origin, and how the circumstances `about` the new run differ."""
        changes = compare(self.state.run, about)
        every = changes.refused + changes.accepted
        lines = [line for line in every if not line.startswith(("name:", "student:"))]
        listed = f"differs in: {'; '.join(lines)}" if lines else "nothing differs"
        return [*self.notes, f"forked from {self.state.place}; {listed}"]

    def begin(self, runner: StageRunner) -> list[str]:
        """Load adaptors and optimizer state into the first stage, where they fit.

        Returns notes: what was loaded, and a line for each part that starts from scratch.
        """
        loaded, fresh = ["student"], []
        for term, adaptor in runner.objective.adaptors.items():
            start, saved = f"{term}.", self.state.adaptors.items()
            found = {n.removeprefix(start): v for n, v in saved if n.startswith(start)}
            if misfits(term, adaptor.state_dict(), found):
                fresh.append(f"the adaptor of {term} starts from scratch: none of its shape found")
            elif found:
                load_tensors(adaptor, found)
                loaded.append(f"adaptor {term}")
        if reason := self._new_optimizer(runner):
            fresh.append(f"the optimizer's state starts from scratch: {reason}")
        else:
            loaded.append("optimizer state")
        return [f"loaded from it: {', '.join(loaded)}", *fresh]

    def _new_optimizer(self, runner: StageRunner) -> str:
        """Load the optimizer's state; return why not, if it does not fit."""
        kept, section = self.state.training["optimizer"], runner.stage.stage.optimizer
        recipe, stage = self.state.run.get("recipe", {}), self.state.progress.stage
        own = f"stages.{stage}.optimizer."
        start = own if f"{own}use" in recipe else "optimizer."
        then = {k.removeprefix(start): v for k, v in recipe.items() if k.startswith(start)}
        if (before := then.get("use")) != section.component.use:
            return f"the optimizer was {before}, now {section.component.use}"
        if _groups(then) != _groups(flat(section.model_dump(exclude={"component"}))):
            return "its parameter groups differ"
        if self.compact is not None:
            return "the student's transforms differ"
        if misfits("", runner.objective.adaptors.state_dict(), self.state.adaptors):
            return "the adaptors differ"
        needed = rehearse(section.component, runner.trained)
        groups = runner.optimizer.state_dict()["param_groups"]
        now, then = ([len(group["params"]) for group in each] for each in (groups, kept["groups"]))
        if now != then or not all(needed <= set(each) for each in kept["state"].values()):
            return "its arguments differ"
        load_optimizer(runner.optimizer, kept["state"], groups)
        return ""


def _groups(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what divides the parameters into groups, of a flat section of the optimizer."""
    keys, usual = r"no_decay\.\d+|groups\.\d+\.match|layer_decay|decay", (None, "factors")
    found = {key: value for key, value in optimizer.items() if re.fullmatch(keys, key)}
    return {k: v for k, v in found.items() if not k.endswith("decay") or v not in usual}


def check_origin(run_dir: Path, fork: Path | None, origin: Mapping[str, str | None]) -> None:
    """Raise ValueError if a run to resume was not started from `fork`, if that is given.

    `origin` is what it recorded as `Fork.origin`; empty if it is no fork.
    """
    found = origin.get("checkpoint")
    if fork is None:
        return
    meant = fork, *(fork / "checkpoints").glob("epoch_*")  # a run's may have been replaced since
    if found and any(_is_origin(place, origin) for place in meant):
        return
    how = f"from {found}" if found else "without --fork"
    raise ValueError(
        f"--fork {fork}: {run_dir} was started {how}: resume it without --fork, or start a new "
        "run from this checkpoint (name=..., without --resume)"
    )


def _is_origin(place: Path, origin: Mapping[str, str | None]) -> bool:
    recorded, place = Path(origin["checkpoint"] or "").resolve(), place.resolve()
    if place in (recorded, recorded.parent.parent):
        return True
    known = place.is_dir() and (place / "manifest.json").is_file()
    return known and checkpoints.digest_of(place) == origin.get("sha256")


def recorded_origin(file: Path) -> dict[str, str]:
    """Return what fork.json has, as `Fork.origin`; {} without it, ValueError if it is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {**found, "checkpoint": str(found["checkpoint"])}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged: start the run again with --overwrite") from error


def brought(path: Path) -> Path:
    """Return the checkpoint that `path` means on the main process, copied to other machines.

    Of a single process the path itself.
    """
    if is_alone():
        return path
    newest = TrainState.newest(path)[0] if checkpoints.any_at(path) else None
    place = decided(newest.place if newest else path)
    bring([place])
    return place


def open_fork(path: Path, recipe: Recipe) -> Fork:
    """Read a checkpoint, or the newest one of a run directory, to start a run from.

    ValueError without a checkpoint, for one of this run, or if a student with other transforms
    cannot be restored.
    """
    state, notes = TrainState.newest(path) if checkpoints.any_at(path) else (None, [])
    state = state or TrainState.read(path)
    run_dir = state.place.resolve().parent.parent
    if run_dir == recipe.run_dir.resolve():
        raise ValueError(f"--fork {path}: this is the run itself; name the new run: name=...")
    now, before = (
        {key: value for key, value in each.items() if key.startswith("student.transforms")}
        for each in (flat(recipe.plain()), state.run.get("recipe", {}))
    )
    if now == before:
        return Fork(state, None, notes)
    if not before:
        return Fork(state, state.student, notes)
    source = run_dir / "recipe.yaml"
    if not source.is_file():
        raise ValueError(
            f"cannot fork {state.place}: its student has other transforms, and the recipe to "
            f"restore it by, {source}, does not exist"
        )
    own = recipe.locations
    trained = load(source, plugins=own.plugins, output_root=own.output_root)
    try:
        student, transforms = state.build_student(trained)
        with torch.no_grad():
            return Fork(state, restore(student, transforms).state_dict(), notes)
    except ValueError as error:
        raise ValueError(f"cannot fork {state.place}: restoring its student: {error}") from error
