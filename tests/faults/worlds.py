"""Runs in two processes, by each way to start them."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["LAUNCHERS", "Ended", "start"]

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = ("accelerate", "torchrun", "by hand")
PATIENCE = 300  # seconds for a whole run on a busy machine


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit code, what it printed, and when."""

    code: int
    said: str
    at: float


def start(launcher: str, recipe: Path, *overrides: str) -> list[Ended]:
    """Run tools/distill.py in two processes; return how each command that was started ended.

    That is the launcher, or by hand the two processes. Fails where a process outlives them.
    """
    tool = [ROOT / "tools/distill.py", recipe, *overrides, "--plugin", "tests",
            "--output-root", recipe.parent / "runs"]  # fmt: skip
    port = str(_free_port())
    modules = {
        "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2",
                       f"--main_process_port={port}"],
        "torchrun": ["torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"],
    }  # fmt: skip
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    if launcher in modules:
        running = [_run(recipe.parent / "out0", "-m", *modules[launcher], *tool)]
    else:
        ranks = [here | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in (0, 1)]
        running = [_run(recipe.parent / f"out{rank['RANK']}", *tool, **rank) for rank in ranks]
    ended = _wait(running, recipe.parent)
    assert _still_running(recipe) == []
    return ended


def _run(output: Path, *arguments: str | Path, **environment: str) -> subprocess.Popen[bytes]:
    environment |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with output.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def _wait(running: list[subprocess.Popen[bytes]], place: Path) -> list[Ended]:
    ended: dict[int, Ended] = {}
    until = time.time() + PATIENCE
    while len(ended) < len(running) and time.time() < until:
        for i, process in enumerate(running):
            if i not in ended and (code := process.poll()) is not None:
                ended[i] = Ended(code, (place / f"out{i}").read_text(), time.time())
        time.sleep(0.05)
    for process in running:
        process.kill()
        process.wait()
    assert len(ended) == len(running), f"only {sorted(ended)} ended"
    return [ended[i] for i in range(len(running))]


def _still_running(recipe: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if str(recipe) in (process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
