"""What the tests of resuming share: stopping a run where one wants, and comparing two runs."""

import json
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from kdx.run.run import run
from kdx.training.stage import StageRunner
from kdx.util.errors import Stopped

__all__ = ["TIMES", "differences", "run_stopped_at", "stop_after"]

TIMES = {"seconds", "images_per_second"}


@contextmanager
def stop_after(steps: int, monkeypatch):
    """Send this process SIGTERM within the optimizer step that is the `steps`-th of a run."""
    taken, step = 0, StageRunner.step

    def counted(self, *arguments, **named):
        nonlocal taken
        taken += 1
        if taken == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(StageRunner, "step", counted)
        yield


def run_stopped_at(recipe, steps, monkeypatch) -> Path:
    """Run a recipe, stop it after each of `steps` counted from the last stop, and resume it."""
    console = Console(quiet=True)
    for count in steps:
        with stop_after(count, monkeypatch), pytest.raises(Stopped, match="saved in"):
            run(recipe, console, resume=True)
    return run(recipe, console, resume=True)


def differences(one: Path, other: Path) -> list[str]:
    """Name what differs between two finished runs, apart from times: nothing, to the bit."""
    found = []
    lines = [
        [
            {name: value for name, value in json.loads(line).items() if name not in TIMES}
            for line in (place / "metrics.jsonl").read_text().splitlines()
        ]
        for place in (one, other)
    ]
    if lines[0] != lines[1]:
        found.append("metrics.jsonl")
    places = [newest(place) for place in (one, other)]
    for name in ("student.safetensors", "training.safetensors", "adaptors.safetensors",
                 "averages.safetensors"):  # fmt: skip
        contents = [(p / name).read_bytes() for p in places if (p / name).exists()]
        if len(contents) == 1 or contents[:1] != contents[1:]:
            found += [name] if contents else []
    states = [json.loads((place / "state.json").read_text()) for place in places]
    for state in states:
        del state["progress"]["seconds"]
    if states[0] != states[1]:
        found.append("state.json")
    if (one / "classes.json").read_bytes() != (other / "classes.json").read_bytes():
        found.append("classes.json")
    if (one / "student.safetensors").read_bytes() != (other / "student.safetensors").read_bytes():
        found.append("the compact student")
    return found


def newest(run_dir: Path) -> Path:
    return max((run_dir / "checkpoints").iterdir())
