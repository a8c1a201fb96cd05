"""The exact peak of a training step's tensor memory."""

import gc
import os
from collections.abc import Callable
from typing import Any, cast

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else torch's profiler writes to the terminal

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from kdx_lab.complexity.rounds import Step

__all__ = ["peak_memory"]

MARK = "the measured step"


def peak_memory(build: Callable[[], Step], device: torch.device) -> int:
    """Return the most bytes that live at once during a step of what `build()` returns.

    Parameters, gradients, the optimiser's state and the batch count, for they are made by
    `build` and a first step. On the CPU every tensor that torch's allocator hands out is seen,
    those inside an operation too, but not the workspaces of its libraries (oneDNN, BLAS).
    """
    gc.collect()
    return _on_cuda(build, device) if device.type == "cuda" else _on_cpu(build)


def _on_cuda(build: Callable[[], Step], device: torch.device) -> int:
    before = torch.cuda.memory_allocated(device)
    step = build()
    step()
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(build: Callable[[], Step]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step = build()
        step()
        with record_function(MARK):
            step()
    assert recorded.profiler is not None
    results = cast("Any", recorded.profiler.kineto_results)
    events = sorted(results.events(), key=lambda event: event.start_ns())
    live = peak = 0
    measured = False
    for event in events:
        if event.name() == MARK:
            measured = True
            peak = live
        elif event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live) if measured else peak
    return peak
