"""Joining the processes of a run, and checking that as many run as were asked for.

Accelerate believes the environment: if a launcher leaves something out, it sees one process.
"""

import gc
import os
import shlex
import sys
from collections.abc import Iterator

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from kdx.launch import heartbeat
from kdx.launch.precision import check_precision
from kdx.recipe import Recipe
from kdx.util.words import counted

_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_TASKS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_BROKEN = (  # what gloo, torch's store and NCCL make of it
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Connection was likely closed",
    "remote process exited",
)


def join(recipe: Recipe) -> bool:
    """Join the other processes of this launch; return whether this is the main process.

    Comes first, so that the others notice if one ends later. Raises ValueError if the environment
    contradicts itself, if another number of processes runs than was asked for, and as
    `check_precision`.
    """
    _check_ranks()
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    assert state.device is not None
    for asked, problem in _requests(recipe, state.num_processes, state.device):
        if asked != state.num_processes:
            raise ValueError(f"{problem}. {_remedy(asked, state.device)}")
    check_precision(recipe.precision, state.device)
    for teacher in recipe.all_teachers.values():
        place = f"{teacher.component.where}.precision"
        check_precision(teacher.precision or "no", state.device, place=place)
    if state.num_processes > 1:
        heartbeat.begin()
    return state.is_main_process


def joined() -> bool:
    """Return whether this process has joined others."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def leave() -> None:
    """End together with the other processes, which notice here if the last step of one failed."""
    PartialState().wait_for_everyone()
    heartbeat.end()
    gc.collect()  # wrapped networks hold the group, whose threads would abort a process that ends
    torch.distributed.destroy_process_group()


def lost_peer(error: Exception) -> str:
    """Return a message if an error means that another process of the run ended, else ""."""
    broken = next((text for text in _BROKEN if text in str(error)), None)
    if broken is None or not isinstance(error, RuntimeError):
        return ""
    return f"another process of this run ended; its own error says why, unless killed ({broken})"


def _check_ranks() -> None:
    """Raise ValueError if WORLD_SIZE and RANK contradict each other."""
    world = _number("WORLD_SIZE") or 1
    if world > 1 and all(_number(name) is None for name in _RANKS):
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        needed = "Processes that are started by hand need RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR"
        launcher = f"and MASTER_PORT. A launcher sets them:\n    {_command(world, device)}"
        raise ValueError(f"WORLD_SIZE={world}, but RANK is not set. {needed} {launcher}")
    rank = _number("RANK")
    if rank is not None and rank >= world:
        raise ValueError(f"RANK={rank}: with WORLD_SIZE={world} ranks are 0 to {world - 1}")


def _requests(recipe: Recipe, world: int, device: torch.device) -> Iterator[tuple[int, str]]:
    """Yield each number of processes that is asked for, and the error if another number runs."""
    running = f"{world} {'is' if world == 1 else 'are'} running"
    if asked := recipe.processes:
        number = counted(asked, "process", "processes")
        yield asked, f"processes: {number} requested, but {running}"
    if asked := _number("WORLD_SIZE"):
        need = "ACCELERATE_USE_CPU=true" if device.type == "cpu" else "RANK and LOCAL_RANK"
        yield asked, f"WORLD_SIZE={asked}, but {running}: to join, Accelerate needs {need}"
    if world == 1 and not recipe.processes:
        yield from _tasks()


def _tasks() -> Iterator[tuple[int, str]]:
    """Yield the number of tasks that mpirun or srun started, if this is one of several.

    Slurm's allocation may be larger than this step; of an interactive one, only one task is meant.
    """
    for name in _TASKS:
        at_terminal = name.startswith("SLURM") and "SLURM_PTY_PORT" in os.environ
        size = _number(name)
        if size and size > 1 and not at_terminal:
            advice = "Start one launcher instead of tasks, or pass `processes=1` if each is a run"
            yield size, f"{name}={size}, but each task would run by itself. {advice} of its own"


def _number(name: str) -> int | None:
    """Return an environment variable that holds a number, None if it is not set or negative."""
    value = os.environ.get(name, "-1")
    if not value.removeprefix("-").isdecimal():
        raise ValueError(f"{name}={value!r} in the environment is not a number")
    return int(value) if int(value) >= 0 else None


def _remedy(processes: int, device: torch.device) -> str:
    if device.type == "cuda" and processes > (gpus := torch.cuda.device_count()):
        return f"This machine has {counted(gpus, 'GPU')}: ask for at most as many processes"
    return f"This works:\n    {_command(processes, device)}"


def _command(processes: int, device: torch.device) -> str:
    if sys.argv[1:2] == ["distill"] and "WORLD_SIZE" not in os.environ:
        return shlex.join(["kdx", *sys.argv[1:], "--processes", str(processes)])
    options = f"--multi_gpu --num_processes {processes}" if processes > 1 else "--num_processes 1"
    where = "ACCELERATE_USE_CPU=true " if device.type == "cpu" and processes > 1 else ""
    return f"{where}accelerate launch {options} {shlex.join(sys.argv)}"
