"""How long commands take to start.

    python -m benchmarks.startup

Each row is a process, from start to end; the last two end after their first optimizer step, on
scikit-learn's digits. CPU seconds depend less on the load of the machine than seconds.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks.output import TableRow, options, selected, show, write
from kdx.commands.shared import guarded
from kdx_lab.complexity.rounds import Quartiles, Rounds, interleave

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
DISTILL = ("-m", "kdx", "distill")
TORCH = "import torch"
ALONE = "configs/digits/smallnet3.yaml"
DISTILLED = "configs/digits/resnet18_to_smallnet3_cl_fc_kd.yaml"
UNTAUGHT = ("teacher.weights=null", "teacher.recipe=null", "teacher.allow_chance=true")
FIRST_STEP = """
import os
import runpy
import sys
from kdx.training.stage import StageRunner

step = StageRunner.step

def once(*arguments, **named):
    step(*arguments, **named)
    os._exit(0)

StageRunner.step = once
sys.argv.insert(1, "distill")
runpy.run_module("kdx", run_name="__main__", alter_sys=True)
"""
COMMANDS: Mapping[str, Sequence[str]] = {
    "python": ("-c", ""),
    TORCH: ("-c", TORCH),
    "import kdx": ("-c", "import kdx"),
    "import kdx.recipe": ("-c", "import kdx.recipe"),
    "distill --help": (*DISTILL, "--help"),
    "a missing recipe": (*DISTILL, "configs/digits/nothing.yaml"),
    "an invalid recipe": (*DISTILL, ALONE, "epoch=3"),
    "first step": ("-c", FIRST_STEP, ALONE),
    "first step, ExpandNet and KD": ("-c", FIRST_STEP, DISTILLED, *UNTAUGHT),
}
REFUSED = 2  # the exit code of an invalid recipe
NOTE = "Medians of the rounds [quartiles]; ratios are of the seconds within a round."


def main(arguments: list[str] | None = None) -> None:
    """Measure the selected rows, print the table, write JSON with --json."""
    args = options(__doc__, rounds=7).parse_args(arguments)
    names = selected(list(COMMANDS), args.only)
    used: dict[str, list[float]] = {name: [] for name in names}
    with TemporaryDirectory() as directory:
        start = partial(_start, Path(directory), args.threads)

        def run(name: str) -> float:
            seconds, cpu = start(name)
            used[name].append(cpu)
            return seconds

        console = Console()
        with console.status("reading all files once"):
            for name in names:
                start(name)
            rounds = interleave(run, names, rounds=args.rounds)
    rows = [_row(name, rounds, Quartiles.of(used[name])) for name in names]
    show(f"Start-up, {args.rounds} rounds", rows, console, note=NOTE)
    if args.json:
        write(args.json, rows, rounds=args.rounds)


def _row(name: str, rounds: Rounds, cpu: Quartiles) -> TableRow:
    torch = rounds.ratio(name, TORCH) if TORCH in rounds.speeds else None
    return {"": name, "seconds": rounds.speed(name), "CPU seconds": cpu, "of import torch": torch}


def _start(directory: Path, threads: int | None, name: str) -> tuple[float, float]:
    """Run a command; return its seconds, and its CPU seconds."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, *COMMANDS[name]]
    if any(word.endswith(".yaml") for word in command):
        command += ["--output-root", str(directory)]
    before, started = _used(), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    seconds, cpu = time.perf_counter() - started, _used() - before
    if done.returncode not in (0, REFUSED):
        raise RuntimeError(f"{name}: exit code {done.returncode}:\n{done.stderr}")
    return seconds, cpu


def _used() -> float:
    """Return the CPU seconds of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(guarded(main))
