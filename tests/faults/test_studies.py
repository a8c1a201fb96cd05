"""A study that is killed or stopped, or of which a run is killed: the same command resumes it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from kdx_lab.study.conduct import conduct
from kdx_lab.study.grid import open_study
from tests.unit.kdx_lab.study.made import Here

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240.0  # seconds; these take a few on an idle machine
BASE = """\
data: {use: digits, limit: 64, batch_size: 16}
student: {use: tests.toys.plain}
losses: [{use: tests.toys.Slow, name: slow, seconds: 0.02}]
optimizer: {use: SGD, lr: 0.05}
epochs: 1
threads: 1
"""
STUDY = """\
recipe: base.yaml
seeds: [0, 1]
arms: {compact: , long: {arm: compact, overrides: {epochs: 4}}}
"""
TIMES = ("seconds", "images_per_second", "ratio")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def start(place: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, ROOT / "tools/study.py", "study.yaml", "name=study", *more,
               "--plugin", "tests", "--output-root", "runs"]  # fmt: skip
    return subprocess.Popen(
        list(map(str, command)),
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)


def end(process: subprocess.Popen) -> tuple[int, str]:
    """Return the exit code and what was printed, when no process of the group is left."""
    printed, _ = process.communicate(timeout=PATIENCE)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return process.returncode, printed
        time.sleep(0.1)
    raise AssertionError(f"a process was left behind: {printed}")


def untimed(value):
    if isinstance(value, dict):
        return {key: untimed(inner) for key, inner in value.items() if key not in TIMES}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def conducted(place: Path, root: str) -> list:
    """Run the study in this process, one run after another; return its rows."""
    options = {"plugins": ("tests",), "output_root": str(place / root)}
    grid = open_study(place / "study.yaml", ["name=study"], **options)
    directory = conduct(grid, Console(file=io.StringIO()), Here())
    return untimed(json.loads((directory / "results.json").read_text())["rows"])


def test_a_study_that_is_killed_goes_on_to_the_same_table(place):
    """The runs stop by themselves, with a checkpoint, once the study is gone."""
    process = start(place, "--jobs", "2")
    wait_for(place / "runs/study/compact/seed_0/summary.json", process)
    process.kill()
    end(process)
    assert conducted(place, "runs") == conducted(place, "unbroken")


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_the_runs_of_a_killed_study_stop_with_checkpoints(place, processes):
    endless = ("seeds=[0]", "arms.long.overrides.epochs=4000", "arms.compact.overrides.epochs=4000")
    process = start(place, *endless, f"overrides.processes={processes}")
    wait_for(place / "runs/study/compact/seed_0/metrics.jsonl", process)
    process.kill()
    end(process)  # long before 4,000 epochs have passed
    assert list((place / "runs/study/compact/seed_0/checkpoints").iterdir())
    assert not (place / "runs/study/compact/seed_0/summary.json").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("jobs", "number", "group"), [(1, signal.SIGTERM, False), (2, signal.SIGINT, True)]
)
def test_a_signal_stops_a_study_with_checkpoints(place, jobs, number, group):
    one = ("seeds=[0]", "arms.long.overrides.epochs=50")
    process = start(place, *one, "--jobs", str(jobs))
    wait_for(place / "runs/study/long/seed_0/metrics.jsonl", process)
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    code, printed = end(process)
    assert code == 3, printed
    assert "stopped by a signal, with " in printed
    assert "Traceback" not in printed
    assert list((place / "runs/study/long/seed_0/checkpoints").iterdir())
    code, printed = end(start(place, *one))
    assert code == 0, printed
    log = (place / "runs/study/logs/study--long--seed_0.txt").read_text()
    assert log.count("resumed from epoch_") == 1


@pytest.mark.long
def test_a_worker_that_dies_is_a_run_that_failed(place):
    process = start(place, "seeds=[0]", "arms.long.overrides.epochs=50", "--jobs", "2")
    path = place / "runs/study/long/seed_0/metrics.jsonl"
    wait_for(path, process)
    (worker,) = (
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any(each.path.endswith("study--long--seed_0.txt") for each in child.open_files())
    )
    worker.kill()
    code, printed = end(process)
    assert code == 1, printed
    assert (
        "1 run of study failed:\n  long, seed 0: its process was killed by SIGKILL, us" in printed
    )
    assert "Traceback" not in printed
    assert (place / "runs/study/compact/seed_0/summary.json").exists()
    assert "- long, seed 0: its process was" in (place / "runs/study/results.md").read_text()
