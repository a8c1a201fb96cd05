"""A step of training, to be compared with one by hand."""

from copy import deepcopy

import torch
from torch import nn

from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner

__all__ = ["assert_same", "one_step"]


def one_step(recipe, *overrides):
    """Return the student before a step, after it, the runner, and the batch."""
    job = build(recipe(*overrides))
    before = deepcopy(job.student)
    runtime = Runtime(job, accelerator_for(job))
    runner = StageRunner(runtime, job.stages[0])
    batch = next(iter(runtime.loader))
    runner.step(batch, runtime.batches.size(0), EpochStats())
    return before, job.student, runner, batch


def assert_same(one: nn.Module, other: nn.Module, **tolerance):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.allclose(a, b, **tolerance), name
