"""The processes of a run: as many as were asked for, and each knows of the others.

Accelerate believes the environment. Where a launcher leaves something out there, a process takes
itself for the only one: half of what was asked for runs, or two runs write into one directory.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from kdx.precision import check_precision
from kdx.recipe import Recipe
from kdx.words import counted

__all__ = ["join", "lost_peer"]

_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_TASKS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_LAUNCHERS = (
    ("accelerate", "launch"),
    ("accelerate-launch",),
    ("accelerate.commands.launch",),
    ("accelerate.commands.accelerate_cli", "launch"),
)


def join(recipe: Recipe) -> None:
    """Join the processes of this launch: the first thing that each of them does with a recipe.

    When one of them ends from here on, its connections break, and so the others learn of it.
    Raises ValueError where the environment contradicts itself, where another number of processes
    runs than recipe, launcher or environment ask for, and as `check_precision`.
    """
    _check_environment()
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    for asked, problem in _requests(recipe, state.num_processes, state.device):
        if asked != state.num_processes:
            raise ValueError(f"{problem}. This works:\n    {_command(asked, state.device)}")
    check_precision(recipe.precision, state.device)


def lost_peer(error: Exception) -> bool:
    """Tell whether an error means that another process of the run has ended."""
    return isinstance(error, RuntimeError) and any(
        said in str(error) for said in ("Connection closed by peer", "Connection reset by peer")
    )


def _check_environment() -> None:
    """Raise ValueError where WORLD_SIZE and RANK do not make sense together."""
    world = _number("WORLD_SIZE") or 1
    ranks = {name: rank for name in _RANKS if (rank := _number(name)) is not None}
    if world > 1 and not ranks:
        raise ValueError(
            f"WORLD_SIZE={world}, but RANK is not set. Processes that are started by hand need "
            "RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; or leave it to a "
            f"launcher:\n    {_command(world, _default_device())}"
        )
    rank = ranks.get("RANK")
    if rank is not None and rank >= world:
        raise ValueError(f"RANK={rank}: with WORLD_SIZE={world} ranks are 0 to {world - 1}")


def _requests(recipe: Recipe, world: int, device: torch.device) -> Iterator[tuple[int, str]]:
    """Yield what each says how many processes run, and the problem if others do."""
    running = f"{world} {'runs' if world == 1 else 'run'}"
    if recipe.processes:
        asked = counted(recipe.processes, "process", "processes")
        yield recipe.processes, f"processes: the recipe asks for {asked}, but {running}"
    if size := _number("WORLD_SIZE"):
        needed = "ACCELERATE_USE_CPU=true" if device.type == "cpu" else "RANK and LOCAL_RANK"
        yield (
            size,
            (
                f"WORLD_SIZE={size}, but {running}, by itself: here Accelerate joins processes only "
                f"with {needed} in the environment"
            ),
        )
    if size := _asked_of_launcher():
        asked = counted(size, "process", "processes")
        yield size, f"`accelerate launch` was asked for {asked}, but {running}"
    if world == 1 and not recipe.processes:
        yield from _tasks()


def _tasks() -> Iterator[tuple[int, str]]:
    """Yield the number of tasks that mpirun or srun started, this one among them.

    Slurm's allocation may be larger than the step that this process is in, and of the tasks of an
    interactive step (with a terminal) only the one at the terminal is meant.
    """
    for name in _TASKS:
        size = _number(name) or 1
        if size > 1 and not (name.startswith("SLURM") and "SLURM_PTY_PORT" in os.environ):
            yield (
                size,
                (
                    f"{name}={size}: each of {size} tasks takes itself for the only one. Start one "
                    "launcher, not the tasks; `processes=1` says that they are runs of their own"
                ),
            )


def _asked_of_launcher() -> int | None:
    """Return the processes that `accelerate launch` was asked for, by its options or its file."""
    if "ACCELERATE_MIXED_PRECISION" not in os.environ:  # it always sets that
        return None
    for parent in psutil.Process().parents():
        try:
            words = parent.cmdline()
        except psutil.Error:  # another user's
            continue
        if (options := _options(words)) is not None:
            return _number_of(options)
    return None


def _options(words: list[str]) -> list[str] | None:
    """Return what follows `accelerate launch` in a command line, None where it is another."""
    names = [Path(word).name for word in words[:4]]
    for launcher in _LAUNCHERS:
        for start in range(len(names)):
            if tuple(names[start : start + len(launcher)]) == launcher:
                return words[start + len(launcher) :]
    return None


def _number_of(options: list[str]) -> int | None:
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    args, _ = launch_command_parser().parse_known_args(options)
    if args.num_processes is not None:
        return args.num_processes
    if args.config_file or (Path(default_config_file).is_file() and not args.cpu):
        return load_config_from_file(args.config_file).num_processes
    return None


def _number(name: str) -> int | None:
    """Return an environment variable that holds a number; a negative one counts as none."""
    value = os.environ.get(name, "-1")
    if not value.removeprefix("-").isdecimal():
        raise ValueError(f"{name}={value!r} in the environment is not a number")
    return int(value) if int(value) >= 0 else None


def _command(processes: int, device: torch.device) -> str:
    """Return the command line that runs this tool, as it was called, in so many processes."""
    options = f"--multi_gpu --num_processes {processes}" if processes > 1 else "--num_processes 1"
    where = "ACCELERATE_USE_CPU=true " if device.type == "cpu" and processes > 1 else ""
    return f"{where}accelerate launch {options} {shlex.join(sys.argv)}"


def _default_device() -> torch.device:
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
