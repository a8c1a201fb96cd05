"""A few timed steps of each stage of a run, for what a dry run says of its cost."""

import statistics
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from kdx.memo.plan import Plan
from kdx.models.teacher import TeacherFn
from kdx.protocols import Outputs
from kdx.recipe import Stage
from kdx.training.runtime import Runtime
from kdx.training.stage import EpochStats, StageRunner

WARM_UP, TIMED = 1, 5  # steps of each stage
PATIENCE = 10.0  # seconds, after which fewer steps will do
FEWEST = 0.05  # epochs worth a line


@dataclass(frozen=True)
class Trial:
    """What a step costs in some of a stage's epochs.

    If there is a memo, `source` says where the teacher's outputs come from in these: "teacher" or
    "memo"; else it is "". `steps` are those of all `epochs`, `seconds` those of one step.
    """

    stage: Stage
    source: str
    epochs: float
    steps: float
    seconds: float


def trials(runtime: Runtime, memos: Mapping[str, Plan]) -> Iterator[Trial]:
    """Take a few real steps of every stage; if there are memos, with the teachers and without.

    Trains the job's student a little. The teacher runs on views that the memo lacks in the first
    epoch that shows them, in proportion if the memo has a part of a view.
    """
    shares = [1 - memo.filled_views() for memo in memos.values()]  # of the views [K]
    absent = np.maximum.reduce(shares) if shares else None
    done = 0
    for stage in runtime.job.stages:
        epochs = range(done, done + stage.stage.epochs)
        done += len(epochs)
        parts: dict[str, float] = {"": len(epochs)}
        if absent is not None and memos.keys() & {*stage.objective.reads}:
            views = list({epoch % len(absent) for epoch in epochs})
            asked = float(absent[views].sum())
            absent[views] = 0
            parts = {"teacher": asked, "memo": len(epochs) - asked}
        runtime.job.enter(stage.stage.phase)
        runner = StageRunner(runtime, stage)
        for source, count in parts.items():
            if count >= FEWEST:
                with _repeating(runtime, memos) if source == "memo" else nullcontext():
                    seconds = _seconds_per_step(runtime, runner)
                yield Trial(stage.stage, source, count, count * runtime.batches.steps, seconds)
        runner.finish()


@contextmanager
def _repeating(runtime: Runtime, names: Collection[str]) -> Iterator[None]:
    """Replace teachers' outputs by those of the first part of a batch of the same size."""
    teacher_fns = runtime.teacher_fns
    runtime.teacher_fns = {n: _repeated(g) if n in names else g for n, g in teacher_fns.items()}
    try:
        yield
    finally:
        runtime.teacher_fns = teacher_fns


def _repeated(teacher: TeacherFn) -> TeacherFn:
    first: dict[int, Outputs] = {}

    def repeat(images: Tensor, indices: Tensor, *, view: int) -> Outputs:
        if len(images) not in first:
            first[len(images)] = teacher(images, indices, view=view)
        return first[len(images)]

    return repeat


def _seconds_per_step(runtime: Runtime, runner: StageRunner) -> float:
    """Return the median over a few steps on real batches, after a warm-up; of one if it is slow."""
    times: list[float] = []
    runtime.batches.set_epoch(0)
    batches = cycle(runtime.loader)
    for step in range(WARM_UP + TIMED):
        started = time.perf_counter()
        runner.step(next(batches), runtime.batches.size(step % runtime.batches.steps), EpochStats())
        if runtime.accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        if len(times) > WARM_UP and sum(times) > PATIENCE:
            break
    return statistics.median(times[WARM_UP:])
