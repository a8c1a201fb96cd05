"""The exact peak memory of a training step's tensors."""

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
    """Return the peak memory, in bytes, of the step that `build()` returns.

    Parameters, gradients, the optimizer's state and the batch count: `build` and a first step
    allocate them. On the CPU it includes every tensor of torch's allocator, also inside operations,
    but not the workspaces of libraries (oneDNN, BLAS).
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
