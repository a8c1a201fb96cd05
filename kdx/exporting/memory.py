"""How much memory a network takes in its runtime, measured in a process of its own."""

import ctypes
import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdx.exporting.formats import Call, by_torch, load
from kdx.launch.memory import proc_bytes

PROCESS = Path("/proc/self")
NETWORK = "network"  # a file of torch.save, in place of a format's module


def measure(module: str, path: Path, images: np.ndarray, *, threads: int = 1) -> int | None:
    """Return the bytes of opening the file `path` and of one forward pass: see `peak`.

    `module` is its format's, or `NETWORK`; `images` are [B, C, H, W]. None if it cannot be
    measured: without Linux, or if the artefact does not run on this batch.
    """
    if not (PROCESS / "clear_refs").exists():
        return None
    try:
        return in_fresh_process(_measure, module, path, images, threads)
    except Exception:  # the runtimes raise anything
        return None


def in_fresh_process(function: Callable[..., int], *given: Any) -> int:
    """Return `function(*given)` of a process that has run nothing before."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *given).result()


def _measure(module: str, path: Path, images: np.ndarray, threads: int) -> int:
    torch.set_num_threads(threads)
    if module == NETWORK:
        # A file that this process's parent wrote.
        return peak(lambda: by_torch(torch.load(path, weights_only=False)), images)
    return peak(lambda: load(module).open(path, threads=threads), images)


def peak(opened: Callable[[], Call], images: np.ndarray) -> int:
    """Return by how much the resident memory of this process grows, at most, in bytes.

    From opening a network to the end of its first forward pass: weights, the runtime's copies of
    them, activations. An earlier pass, then freed, keeps the runtime's own code out of it. Linux
    resets VmHWM, the peak, if asked by clear_refs (proc(5)).
    """
    opened()(images)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = proc_bytes(f"{PROCESS}/status", "VmRSS")
    (PROCESS / "clear_refs").write_text("5")
    opened()(images)
    return max(0, proc_bytes(f"{PROCESS}/status", "VmHWM") - before)
