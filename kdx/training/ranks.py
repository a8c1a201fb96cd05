"""What each process of a run has of its own: random generators, buffers, statistics."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from kdx.training.objective import Objective
from kdx.training.stage import EpochStats, StageRunner


def rank_state(objective: Objective, stats: EpochStats) -> dict[str, Any]:
    """Return what is this process's own: random generators, buffers, statistics of the epoch."""
    device = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    name, keys, *place = np.random.get_state(legacy=True)  # a plug-in may draw from it
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *place),
        "torch": torch.get_rng_state(),
        "device": device,
        "buffers": {name: buffer.cpu() for name, buffer in objective.own_buffers().items()},
        "tally": vars(stats) | {"sums": {n: value.cpu() for n, value in stats.sums.items()}},
    }


def load_rank(ranks: Sequence[Mapping[str, Any]], runner: StageRunner) -> EpochStats:
    """Load a process's generators and buffers; return its statistics."""
    runtime = runner.runtime
    same = len(ranks) == runtime.world
    state = ranks[runtime.rank if same else 0]
    for name, buffer in runner.objective.own_buffers().items():
        buffer.copy_(state["buffers"][name])
    if same or not runtime.rank:
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        if state["device"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["device"])
    every = [EpochStats(**each["tally"]) for each in ranks]
    stats = every[runtime.rank] if same else _merged(every, first=not runtime.rank)
    device = runtime.accelerator.device
    stats.sums = {name: value.to(device) for name, value in stats.sums.items()}
    return stats


def _merged(every: Sequence[EpochStats], *, first: bool) -> EpochStats:
    """Return the sums of all for the first process, zeros for others; counters are common."""
    sums = {name: torch.stack([one.sums[name] for one in every]).sum(0) for name in every[0].sums}
    if not first:
        return replace(every[0], sums={n: torch.zeros_like(v) for n, v in sums.items()}, seen=0)
    return replace(every[0], sums=sums, seen=sum(one.seen for one in every))
