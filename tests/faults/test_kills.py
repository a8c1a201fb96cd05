"""Killed at any moment, a run leaves whole checkpoints, and goes on from the newest."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kdx import checkpoints
from kdx.checkpoints import store
from kdx.run.run import run
from kdx.training.stage import StageRunner
from kdx.util.errors import TrainingError
from tests.faults.resuming import differences

KILLS = 40
CONTENT = {"state.json": b"{}", "student.safetensors": os.urandom(2**20), "run.json": b"{}"}


def save_for_ever(directory: Path) -> None:
    """Save one checkpoint after the other, as a run does."""
    checkpoints.sweep(directory)
    numbers = [int(path.name[6:]) for path in directory.glob("epoch_*")]
    number = max(numbers, default=0)
    while True:
        number += 1
        place = directory / f"epoch_{number:04d}"
        checkpoints.save(place, CONTENT)
        checkpoints.prune(place, keep=2)


def killed_after(seconds: float, target, *arguments) -> None:
    """Start a process and kill it, without a chance to clean up; it must not end by itself."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    time.sleep(seconds)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_at_any_moment_only_whole_checkpoints_are_left(tmp_path):
    """Before the next start sweeps it there is at most one staging directory beside them."""
    moments, newest, cut_off = random.Random(0), "", 0
    for _ in range(KILLS):
        killed_after(moments.uniform(0.005, 0.1), save_for_ever, tmp_path)
        names = sorted(path.name for path in tmp_path.iterdir())
        whole = [name for name in names if not name.startswith(".")]
        cut_off += len(names) > len(whole)
        for name in whole:
            assert checkpoints.read(tmp_path / name) == CONTENT
        name, passed = checkpoints.newest(
            tmp_path, lambda place: checkpoints.read(place) and place.name
        )
        assert not passed
        if name is not None:
            assert name >= newest
            newest = name
    assert cut_off > 0, "no kill met a save: the test shows nothing"
    checkpoints.sweep(tmp_path)
    assert not list(tmp_path.glob(".*"))


def train(recipe) -> None:
    run(recipe, Console(quiet=True), resume=True)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_run_killed_thirty_times_is_one_that_never_was(recipe):
    """Kills fall anywhere: while building, training, saving, evaluating, exporting."""
    overrides = ("epochs=12", "checkpoint_every=1", "student.use=tests.toys.dropping",
                 "data.augment={crop: 2, flip: true}", "data.workers=1")  # fmt: skip
    moments, resumed = random.Random(1), recipe(*overrides, name="resumed")
    kills = 0
    for _ in range(30):
        process = multiprocessing.get_context("fork").Process(target=train, args=(resumed,))
        process.start()
        process.join(moments.uniform(0.1, 3.0))
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        for place in (resumed.run_dir / "checkpoints").glob("epoch_*"):
            checkpoints.read(place)
    train(resumed)
    unbroken = run(recipe(*overrides, name="unbroken"), Console(quiet=True))
    assert differences(unbroken, resumed.run_dir) == []
    assert kills >= 10, "it was over too early: the test shows little"


def assert_first_epoch_stands(recipe) -> None:
    """Of three epochs the first has its checkpoint, alone, and the run goes on from there."""
    place = recipe().run_dir / "checkpoints"
    assert [path.name for path in place.iterdir()] == ["epoch_0001"]
    checkpoints.read(place / "epoch_0001")
    resumed = run(recipe("epochs=3"), Console(quiet=True), resume=True)
    unbroken = run(recipe("epochs=3", name="unbroken"), Console(quiet=True))
    assert differences(unbroken, resumed) == []


def test_a_full_disk_ends_the_run_and_loses_nothing(recipe, monkeypatch):
    """The second checkpoint's second file does not fit; with room again the run goes on."""
    put, puts = store.put, 0

    def full(path, content):
        nonlocal puts
        puts += 1
        if puts == 8:
            put(path, content[:100])
            raise OSError(28, "No space left on device", str(path))
        put(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(store, "put", full)
        with pytest.raises(OSError, match=r"epoch_0002: cannot write the checkpoint \(No sp"):
            run(recipe("epochs=3"), Console(quiet=True))
    assert_first_epoch_stands(recipe)


def test_numbers_gone_wrong_leave_the_last_good_checkpoint(recipe, monkeypatch):
    """A weight becomes infinite behind the loss's back; no checkpoint of that is written."""
    step, taken = StageRunner.step, 0

    def spoiling(self, *arguments, **named):
        nonlocal taken
        step(self, *arguments, **named)
        taken += 1
        if taken == 8:  # the last of the second epoch
            with torch.no_grad():
                self.runtime.job.student.conv3.weight[0, 0, 0, 0] = float("inf")

    with monkeypatch.context() as patched:
        patched.setattr(StageRunner, "step", spoiling)
        with pytest.raises(TrainingError, match=r"contain NaN or Inf: student\.conv3\.weight"):
            run(recipe("epochs=3"), Console(quiet=True))
    assert_first_epoch_stands(recipe)
