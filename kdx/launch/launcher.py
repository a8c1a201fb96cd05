"""How many processes `accelerate launch` was asked for, which it does not tell those it starts."""

import os
from pathlib import Path

import psutil

__all__ = ["processes_asked"]

_COMMANDS = (
    ("accelerate", "launch"),
    ("accelerate-launch",),
    ("accelerate.commands.launch",),
    ("accelerate.commands.accelerate_cli", "launch"),
)


def processes_asked() -> int | None:
    """Return the number by the options or the configuration file of the launcher.

    None where `accelerate launch` did not start this process, or was not told a number.
    """
    if "ACCELERATE_MIXED_PRECISION" not in os.environ:  # it always sets that
        return None
    for parent in psutil.Process().parents():
        try:
            options = _options(parent.cmdline())
        except psutil.Error:  # ended, or another user's
            continue
        if options is not None:
            return _asked_by(options)
    return None


def _options(words: list[str]) -> list[str] | None:
    """Return what follows `accelerate launch` in a command line, None where it is another."""
    names = [Path(word).name for word in words[:4]]  # after python, -m
    for command in _COMMANDS:
        for start in range(len(names)):
            if tuple(names[start : start + len(command)]) == command:
                return words[start + len(command) :]
    return None


def _asked_by(options: list[str]) -> int | None:
    """Read the options as `accelerate launch` reads them."""
    from accelerate.commands.config import config_args
    from accelerate.commands.launch import launch_command_parser

    args, _ = launch_command_parser().parse_known_args(options)
    if args.num_processes is not None:
        return args.num_processes
    if not args.config_file and (args.cpu or not Path(config_args.default_config_file).is_file()):
        return None
    config = config_args.load_config_from_file(args.config_file)
    return config.num_processes if isinstance(config, config_args.ClusterConfig) else None
