"""Launches that start fewer processes than they were asked for are refused, with one that works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
data: {use: digits, limit: 64, batch_size: 32}
student: {use: tests.toys.plain}
epochs: 1
"""
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch")
WORKS = re.compile(r"This works:\n +(ACCELERATE_USE_CPU=true accelerate launch .*)")


def run(command, **environment):
    """Run a command where there is no GPU; return its exit code and what it printed."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {"PATH": binaries, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | known | environment, shell=isinstance(command, str),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture
def tool(tmp_path):
    """Return the command line of a run below the test's directory."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return ("tools/distill.py", str(tmp_path / "recipe.yaml"), "--plugin", "tests.toys",
            "--output-root", str(tmp_path / "runs"))  # fmt: skip


def test_a_launcher_that_starts_one_of_two(tool, tmp_path):
    code, said = run([*ACCELERATE, "--cpu", "--num_processes", "2", *tool, "processes=2"])
    assert code == 1  # what `accelerate launch` makes of any other
    assert "returned non-zero exit status 2" in said
    assert "error: processes: 2 processes requested, but 1 is running. This works:" in said
    command = WORKS.search(said)
    assert command is not None
    called = " ".join((*tool, "processes=2"))
    assert command[1].endswith(f"accelerate launch --multi_gpu --num_processes 2 {called}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("launcher", "more", "environment", "found"),
    [
        ([*ACCELERATE, "--num_processes", "2"], ["processes=2"], {}, "processes: 2 processes req"),
        ([sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"], [], {},
         "WORLD_SIZE=2, but 1 is running: to join, Accelerate needs ACCELERATE_USE_CPU=true"),
        ([sys.executable], ["processes=2"], {}, "processes: 2 processes requested, but 1 is"),
        ([sys.executable], [], {"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE=2, but each"),
        ([sys.executable], [], {"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_STEP_NUM_TASKS=2, but each"),
    ],
)  # fmt: skip
def test_the_command_that_it_names_works(launcher, more, environment, found, tool, tmp_path):
    code, said = run([*launcher, *tool, *more], **environment)
    assert code != 0
    assert f"error: {found}" in said
    assert not (tmp_path / "runs").exists()
    command = WORKS.search(said)
    assert command is not None
    port = command[1].replace("--multi_gpu", "--multi_gpu --main_process_port 0")
    code, said = run(port, **environment)
    assert code == 0, said
    assert "device   cpu, 2 processes, 1 thread, float32" in said


@pytest.mark.long
@pytest.mark.parametrize(
    "launcher",
    [
        [sys.executable],
        [*ACCELERATE],
        [*ACCELERATE, "--num_processes", "1"],
        [*ACCELERATE, "--cpu", "--num_processes", "1"],
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1"],
    ],
)
def test_one_process_that_is_right(launcher, tool):
    code, said = run([*launcher, *tool], SLURM_NTASKS="4")
    assert code == 0, said
    assert "device   cpu, 1 process, " in said
