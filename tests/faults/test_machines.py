"""A run over two machines: two launchers with their own working directories and output roots."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.worlds import _free_port

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0
WITHIN = 60.0  # seconds in which a run ends when a machine is gone
RECIPE = """\
data: {use: digits, limit: 256, validation: 64, batch_size: 16}
student: {use: tests.toys.plain}
losses: [{use: tests.toys.Slow, name: slow, seconds: 0.05}, {use: kd}]
teacher: {use: tests.toys.plain, recipe: teacher.yaml, weights: runs/t, allow_chance: true}
optimizer: {use: SGD, lr: 0.05}
select: best
epochs: 10
threads: 1
name: r
"""
TEACHER = """\
data: {use: digits, limit: 256, validation: 64, batch_size: 16}
student: {use: tests.toys.plain}
epochs: 2
threads: 1
name: t
"""


class World:
    """Two machines below a directory, which share nothing; `ended` is when each launcher was."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for machine in "01":
            (place / machine).mkdir(parents=True)
            (place / machine / "r.yaml").write_text(RECIPE)
            (place / machine / "teacher.yaml").write_text(TEACHER)

    @property
    def run_dir(self) -> Path:
        return self.place / "0/out0/r"

    def start(self, *more: str) -> None:
        port = _free_port()
        self.launchers = [self._launch(machine, port, *more) for machine in (0, 1)]

    def _launch(self, machine: int, port: int, *more: str) -> subprocess.Popen:
        launcher = ["-m", "accelerate.commands.launch", "-q", "--multi_gpu", "--num_machines=2",
                    f"--machine_rank={machine}", "--main_process_ip=127.0.0.1",
                    f"--main_process_port={port}", "--num_processes=2", "--mixed_precision=no",
                    "--dynamo_backend=no"]  # fmt: skip
        words = ["-m", "kdx", "distill", "r.yaml", "--plugin=tests", f"--output-root=out{machine}"]
        cpu = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with (self.place / f"{machine}.txt").open("wb") as log:
            return subprocess.Popen([sys.executable, *launcher, *words, *more],
                                    cwd=self.place / str(machine), env=os.environ | cpu,
                                    stdout=log, stderr=log)  # fmt: skip

    def wait_for(self, epochs: int) -> None:
        metrics, until = self.run_dir / "metrics.jsonl", time.monotonic() + PATIENCE
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < epochs:
            assert time.monotonic() < until, self.said(0)
            time.sleep(0.1)

    def signal(self, machine: int, number: int) -> None:
        """Send a signal to the launcher of a machine and to what it started."""
        launcher = psutil.Process(self.launchers[machine].pid)
        for process in (*launcher.children(recursive=True), launcher):
            process.send_signal(number)

    def said(self, machine: int) -> str:
        return (self.place / f"{machine}.txt").read_text()

    def end(self, machine: int, within: float = PATIENCE) -> int:
        return self.launchers[machine].wait(within)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("unbroken"))
    world.start()
    assert [world.end(machine) for machine in (0, 1)] == [0, 0], world.said(0) + world.said(1)
    return world


def resumed(world: World) -> bytes:
    world.start("--resume")
    assert [world.end(machine) for machine in (0, 1)] == [0, 0], world.said(0) + world.said(1)
    assert "resumed from epoch_" in world.said(0)
    return (world.run_dir / "student.safetensors").read_bytes()


def test_machines_share_no_files(unbroken):
    assert (unbroken.run_dir / "summary.json").exists()
    there = unbroken.place / "1/out1"
    assert (there / "t/student.safetensors").exists()  # brought
    assert not (there / "r/summary.json").exists()


def test_sigterm_on_one_machine_stops_both_with_a_checkpoint(unbroken, tmp_path):
    world = World(tmp_path / "world")
    world.start()
    world.wait_for(3)
    world.launchers[1].send_signal(signal.SIGTERM)
    assert world.end(0, WITHIN)
    assert world.end(1, WITHIN)
    assert "_step_" in max(path.name for path in (world.run_dir / "checkpoints").iterdir())
    assert resumed(world) == (unbroken.run_dir / "student.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("machine", "number"),
    [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGSTOP)],
)
def test_a_machine_that_dies_ends_the_other(unbroken, tmp_path, machine, number):
    """SIGSTOP is what the loss of power or network looks like: connections stay open."""
    world = World(tmp_path / "world")
    world.start()
    world.wait_for(3)
    world.signal(machine, number)
    assert world.end(1 - machine, WITHIN) == 1
    silent = "has not answered" if number == signal.SIGSTOP else "another process of this run ended"
    assert silent in world.said(1 - machine)
    if number == signal.SIGSTOP:
        world.signal(machine, signal.SIGKILL)
    world.end(machine)
    assert resumed(world) == (unbroken.run_dir / "student.safetensors").read_bytes()
