"""SIGTERM and SIGINT: one checkpoint, no process left behind, and the run goes on from there."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.resuming import differences

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
data: {use: digits, limit: 64, batch_size: 16, augment: {crop: 2}, workers: 1}
student: {use: tests.toys.dropping}
losses: [{use: tests.toys.Slow, name: slow, seconds: 0.05}]
optimizer: {use: SGD, lr: 0.05, momentum: 0.9}
accumulate: 4
epochs: 8
"""
PLAIN = [sys.executable]
ONE = [*PLAIN, "-m", "accelerate.commands.launch", "-q"]
TWO = [*ONE, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
PATIENCE = 120.0  # seconds; these take one or two on an idle machine


@dataclass(frozen=True)
class Ended:
    """A command's exit code, or None for one that was killed, and what it printed."""

    code: int
    printed: str


def start(launcher, place: Path, name: str, *more: str) -> subprocess.Popen:
    command = [*launcher, ROOT / "tools/distill.py", place / "recipe.yaml", f"name={name}", *more,
               "--plugin", "tests.toys", "--output-root", place]  # fmt: skip
    return subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen) -> Ended:
    """Wait for a command, and for every process that it started."""
    printed, _ = process.communicate(timeout=PATIENCE)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return Ended(process.returncode, printed)
        time.sleep(0.1)
    raise AssertionError(f"a process was left behind: {printed}")


def stopped(launcher, place: Path, number: int, *, group: bool = False) -> Ended:
    """Start a run, signal the launcher, or as Ctrl-C does all, when an epoch is done."""
    process = start(launcher, place, "resumed")
    until, metrics = time.monotonic() + PATIENCE, place / "resumed" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().endswith("\n")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return end(process)


def run(launcher, place: Path, name: str, *more: str) -> str:
    ended = end(start(launcher, place, name, *more))
    assert ended.code == 0, ended.printed
    return ended.printed


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return a function: a launcher to a run of the recipe in its processes that never stopped."""
    runs: dict[int, Path] = {}

    def unbroken(launcher) -> Path:
        processes = 2 if launcher == TWO else 1
        if processes not in runs:
            place = tmp_path_factory.mktemp("unbroken")
            (place / "recipe.yaml").write_text(RECIPE)
            run(launcher, place, "unbroken")
            runs[processes] = place / "unbroken"
        return runs[processes]

    return unbroken


@pytest.mark.parametrize(
    ("launcher", "number", "group"),
    [
        (PLAIN, signal.SIGTERM, True),
        pytest.param(PLAIN, signal.SIGINT, False, marks=pytest.mark.long),
        pytest.param(PLAIN, signal.SIGHUP, True, marks=pytest.mark.long),
        pytest.param(ONE, signal.SIGTERM, False, marks=pytest.mark.long),
        pytest.param(ONE, signal.SIGINT, True, marks=pytest.mark.long),
        (TWO, signal.SIGTERM, False),
        pytest.param(TWO, signal.SIGINT, True, marks=pytest.mark.long),
    ],
    ids=[
        "all, SIGTERM",
        "python, SIGINT",
        "all, SIGHUP",
        "launcher, SIGTERM",
        "Ctrl-C",
        "two, SIGTERM",
        "two, Ctrl-C",
    ],
)
def test_a_signal_stops_all_with_one_checkpoint(tmp_path, unbroken, launcher, number, group):
    """Loader workers get it too, where all do. `accelerate launch` makes the exit code 3 a 1."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    ended = stopped(launcher, tmp_path, number, group=group)
    assert ended.code == (3 if launcher == PLAIN else ended.code) != 0
    if launcher == PLAIN:
        assert "Traceback" not in ended.printed
    assert ended.printed.count("stopped by a signal, saved in ") == 1, ended.printed
    place = tmp_path / "resumed" / "checkpoints"
    assert not list(place.glob(".*"))
    checkpoint = max(place.iterdir())
    assert f"saved in {checkpoint};" in ended.printed
    state = json.loads((checkpoint / "state.json").read_text())
    assert len(state["training"]["ranks"]) == (2 if launcher == TWO else 1)
    printed = run(launcher, tmp_path, "resumed", "--resume")
    assert f"note     resumed from {checkpoint.name}\n" in printed
    assert differences(unbroken(launcher), tmp_path / "resumed") == []


@pytest.mark.long
def test_two_processes_go_on_as_one(tmp_path):
    """Harmless with the same global batch, and said; dropout's masks differ, so rounding does not
    show here: that is what tests/integration/test_processes.py compares.
    """
    recipe = RECIPE.replace("dropping", "plain").replace("accumulate: 4", "accumulate: 1")
    (tmp_path / "recipe.yaml").write_text(recipe)
    stopped(TWO, tmp_path, signal.SIGTERM)
    printed = run(PLAIN, tmp_path, "resumed", "--resume")
    assert "note     changed: processes: 2, now 1 (may round differently)\n" in printed
    run(PLAIN, tmp_path, "unbroken")
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("resumed", "unbroken")
    ]
    for resumed, unbroken in zip(*lines, strict=True):
        assert resumed["loss/slow"] == pytest.approx(unbroken["loss/slow"], rel=1e-4)


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path):
    """As `| head` does: the run goes on unseen, to its end."""
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("epochs: 8", "epochs: 3"))
    process = start(PLAIN, tmp_path, "unread")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert (tmp_path / "unread" / "student.safetensors").exists()
