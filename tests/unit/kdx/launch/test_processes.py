import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from kdx.commands.fill import fill
from kdx.commands.plan import dry_run
from kdx.launch import processes
from kdx.launch.processes import join, joined, lost_peer
from kdx.run.run import run

NAMES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
    "OMPI_COMM_WORLD_RANK", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_PTY_PORT",
    "ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION",
)  # fmt: skip
LAUNCH = r"\n    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 "


@pytest.fixture
def joins(recipe, monkeypatch):
    """Return a function that joins: overrides, what runs, and the environment."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["tools/distill.py", "a b.yaml", "epochs=3"])

    def joins(*overrides, running=1, device="cpu", **environment):
        state = SimpleNamespace(
            is_main_process=True, num_processes=running, device=torch.device(device)
        )
        with monkeypatch.context() as patch:
            patch.setattr(processes, "PartialState", lambda cpu: state)
            for name, value in environment.items():
                patch.setenv(name, value)
            join(recipe(*overrides))

    return joins


@pytest.mark.parametrize(
    "world",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"running": 2, "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"},
        {"running": 2, "WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
        {"running": 2, "WORLD_SIZE": "2", "RANK": "0"},
        {"running": 4, "WORLD_SIZE": "4", "RANK": "3", "SLURM_STEP_NUM_TASKS": "2"},
        {"running": 2, "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
        {"SLURM_NTASKS": "4"},  # a batch script, or a shell in an allocation
        {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PTY_PORT": "41000"},  # srun --pty bash
        {"WORLD_SIZE": "-1"},
    ],
)
def test_a_world_that_is_right(joins, world):
    joins(**world)
    joins(f"processes={world.get('running', 1)}", **world)


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_tasks_that_each_run_alone(joins, name):
    said = f"^{name}=2, but each task would run by itself. Start one launcher instead"
    with pytest.raises(ValueError, match=rf"{said}.* pass `processes=1` if .* works:{LAUNCH}"):
        joins(**{name: "2"})
    joins("processes=1", **{name: "2"})  # a sweep: runs of their own


def test_the_recipe_asks_for_others(joins):
    said = "^processes: 2 processes requested, but 1 is running. This works:"
    with pytest.raises(ValueError, match=f"{said}{LAUNCH}tools/distill.py 'a b.yaml' epochs=3$"):
        joins("processes=2")
    said = r"1 process requested, but 2 are running. This works:\n    accelerate launch --num_proce"
    with pytest.raises(ValueError, match=said):
        joins("processes=1", running=2)


def test_a_world_of_which_accelerate_does_not_know(joins):
    world = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    with pytest.raises(ValueError, match=r"^WORLD_SIZE=2, but 1 is running: to join, Accelerate "
                                         f"needs ACCELERATE_USE_CPU=true.*{LAUNCH}"):  # fmt: skip
        joins(**world)


def test_gpus(joins, monkeypatch):
    world = {"device": "cuda", "WORLD_SIZE": "2", "RANK": "0"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"needs RANK and LOCAL_RANK. This works:\n    acceler"):
        joins(**world)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="This machine has 1 GPU: ask for at most as many"):
        joins(**world)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, f"^WORLD_SIZE=2, but RANK is not set. .* A launcher sets.*{LAUNCH}"),
        ({"WORLD_SIZE": "two"}, "^WORLD_SIZE='two' in the environment is not a number"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "^RANK=2: with WORLD_SIZE=2 ranks are 0 to 1"),
        ({"RANK": "1"}, "^RANK=1: with WORLD_SIZE=1 ranks are 0 to 0"),
    ],
)
def test_an_environment_that_makes_no_sense(joins, environment, said):
    """Two that both take themselves for rank 0 would wait for each other for half an hour."""
    with pytest.raises(ValueError, match=said):
        joins(**environment)


def test_precision_is_checked(joins):
    with pytest.raises(ValueError, match="'fp8' is not supported"):
        joins(ACCELERATE_MIXED_PRECISION="fp8")
    joins("precision=bf16", ACCELERATE_MIXED_PRECISION="fp8")


@pytest.mark.parametrize("job", [run, dry_run, fill])
@pytest.mark.parametrize("override", ["precision=fp16", "processes=2"])
def test_jobs_are_refused_before_anything_is_built(job, override, recipe, console, monkeypatch):
    module = "kdx.commands.plan" if job is dry_run else job.__module__
    monkeypatch.setattr(import_module(module), "build", None)
    memo = "teacher={use: smallnet, memo: {views: 1}}"
    refused = recipe(override, memo, "losses=[{use: kd}]")
    with pytest.raises(
        ValueError, match=r"'fp16' is not supported on the CPU|2 processes requested"
    ):
        job(refused, console)
    assert console.file.getvalue() == ""
    assert not refused.run_dir.exists()


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("pair.cc:561] Connection closed by peer [127.0.0.1]:1. GLHF!"), True),
        (RuntimeError("pair.cc:545] Read error [::1]:2: Connection reset by peer."), True),
        (torch.distributed.DistBackendError("NCCL error: remote process exited or ..."), True),
        (ConnectionResetError(104, "Connection reset by peer"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_the_end_of_another_process_is_known(error, lost):
    assert lost_peer(error).startswith("another process of this run ended") == lost


def test_one_process_has_joined_nobody():
    assert not joined()


def test_a_run_of_kdx_is_told_its_own_option(joins, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/kdx", "distill", "a b.yaml"])
    works = r"requested, but 1 is running. This works:\n    kdx distill 'a b.yaml' --processes 2$"
    with pytest.raises(ValueError, match=works):
        joins("processes=2")
    with pytest.raises(ValueError, match=r"\n    accelerate launch --num_processes 1 /bin/kdx"):
        joins(running=2, WORLD_SIZE="1", RANK="0")
