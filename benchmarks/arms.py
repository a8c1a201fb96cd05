"""The arms of `pipeline.py`: from a bare loop on one batch to a whole recipe, part by part."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from io import StringIO
from itertools import count
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from benchmarks.training import trainer, training_step
from kdx.data import EpochBatches, train_loader
from kdx.data.loading import Loader
from kdx.memo.use import plan_memos, remembering
from kdx.models.teacher import Teacher
from kdx.protocols import Outputs
from kdx.recipe import Recipe, load
from kdx.training.job import Job, build
from kdx.training.log import RunLog
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner
from kdx_lab.complexity.rounds import Step

__all__ = ["ARMS", "BARE", "WARMUP", "Bench", "BenchmarkArm"]

COMPACT = ["student.transforms=[]"]
ALONE = ["teacher=null", "losses=[{use: cross_entropy}]"]
BARE = "bare loop"
WARMUP = 2  # epochs


@dataclass(frozen=True)
class BenchmarkArm:
    """A row of the table: `build` returns an epoch to run, which adds a part to the row `base`."""

    build: Callable[["Bench"], Step]
    base: str | None = None

    @property
    def alone(self) -> bool:
        """Whether it is a part on its own, which trains nothing."""
        return self.base is None and self.build is not _bare


@dataclass(frozen=True)
class Bench:
    """Shared by the arms: a recipe with a teacher and a transform, and overrides.

    Logs and memos are written below `directory`, and closed with `stack`.
    """

    recipe: Path
    directory: Path
    common: Sequence[str]
    stack: ExitStack

    def load(self, *overrides: str) -> Recipe:
        """Return the recipe with the common overrides, then these."""
        return load(self.recipe, [*self.common, *overrides], output_root=self.directory)

    @cached_property
    def images(self) -> int:
        """The images of an epoch."""
        _, loader = self.compact()
        return sum(len(batch.targets) for batch in loader)

    @cached_property
    def accelerator(self) -> Accelerator:
        """The one Accelerator of this process."""
        threads = torch.get_num_threads()
        accelerator = accelerator_for(build(self.load(*COMPACT, *ALONE)))
        torch.set_num_threads(threads)
        return accelerator

    def compact(self) -> tuple[Job, Loader]:
        """Return the recipe's compact network without a teacher, and an epoch of its views."""
        job = build(self.load(*COMPACT, *ALONE))
        size = job.recipe.data.batch_size
        batches = EpochBatches(len(job.splits.train), batch_size=size, seed=0)
        return job, train_loader(job.train_views, batches)

    def runner(self, *overrides: str, held: bool = False, remembered: bool = False) -> StageRunner:
        """Return kdx's own runner of the recipe's first stage; teachers have random weights.

        `held`: the teacher is replaced by a batch of its outputs in memory. `remembered`: by a memo
        of as many views as there are warm-up epochs.
        """
        overrides += (f"teacher.memo.views={WARMUP}",) if remembered else ()
        job = build(self.load(*overrides), teacher_weights=False)
        if held:
            given = cast("Teacher", Held(job.recipe.data.batch_size, job.classes))
            job = replace(job, teachers={"teacher": given})
        runtime = Runtime(job, self.accelerator)
        plans = plan_memos(runtime) if remembered else {}
        self.stack.enter_context(remembering(runtime, plans, Console(quiet=True)))
        return StageRunner(runtime, job.stages[0])

    def epochs(self, runner: StageRunner) -> Step:
        """Return a step that trains an epoch as a run does, with its progress bar and log."""
        directory = self.directory / f"log{len(list(self.directory.glob('log*')))}"
        log = RunLog(directory, Console(file=StringIO(), force_terminal=True), epochs=1)
        self.stack.callback(log.close)
        numbers = count()

        def epoch() -> None:
            number = next(numbers)
            log.epoch(number, "train", runner.run(number, 0, log))

        return epoch


class Held:
    """Replaces a teacher: its outputs cost nothing."""

    average = None

    def __init__(self, batch_size: int, classes: int) -> None:
        self.logits = torch.randn(batch_size, classes)

    def __call__(self, images: Tensor) -> Outputs:
        return Outputs(self.logits[: len(images)])

    def to(self, device: torch.device) -> "Held":
        self.logits = self.logits.to(device)
        return self


def _bare(bench: Bench, *, channels_last: bool = False) -> Step:
    job, loader = bench.compact()
    batches = list(loader)
    device = bench.accelerator.device
    step = training_step(job.student, batches[0][:2], device=device, channels_last=channels_last)
    return lambda: [step() for _ in batches]


def _views(bench: Bench) -> Step:
    job, loader = bench.compact()
    device, last = bench.accelerator.device, torch.channels_last
    train = trainer(job.student, device=device)
    return lambda: [
        train(b.images.to(device, memory_format=last), b.targets.to(device)) for b in loader
    ]


def _step(bench: Bench) -> Step:
    runner = bench.runner(*COMPACT, *ALONE)

    def epoch() -> None:
        stats = EpochStats()
        for batch in runner.runtime.loader:
            runner.step(batch, len(batch.targets), stats)

    return epoch


def _only_views(bench: Bench) -> Step:
    _, loader = bench.compact()
    return lambda: [batch.targets for batch in loader]


def _only_teacher(bench: Bench) -> Step:
    runtime = bench.runner(*COMPACT).runtime
    teacher, batches = runtime.job.teachers["teacher"], list(runtime.loader)
    device = bench.accelerator.device
    return lambda: [teacher(batch.images.to(device)) for batch in batches]


def _only_optimizer(bench: Bench, *overrides: str) -> Step:
    runner = bench.runner(*overrides, *ALONE)
    steps = runner.runtime.batches.steps
    for parameter in runner.objective.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    return lambda: [runner.optimizer.step() for _ in range(steps)]


def _recipe(*overrides: str, **teacher: bool) -> Callable[[Bench], Step]:
    return lambda bench: bench.epochs(bench.runner(*overrides, **teacher))


ARMS: Mapping[str, BenchmarkArm] = {
    BARE: BenchmarkArm(_bare),
    "+ channels last": BenchmarkArm(partial(_bare, channels_last=True), BARE),
    "+ views": BenchmarkArm(_views, "+ channels last"),
    "+ kdx's step": BenchmarkArm(_step, "+ views"),
    "+ schedule, checks, log": BenchmarkArm(_recipe(*COMPACT, *ALONE), "+ kdx's step"),
    "+ expansion": BenchmarkArm(_recipe(*ALONE), "+ schedule, checks, log"),
    "+ KD, outputs in memory": BenchmarkArm(_recipe(held=True), "+ expansion"),
    "+ KD, filled memo": BenchmarkArm(_recipe(remembered=True), "+ expansion"),
    "+ KD, live teacher": BenchmarkArm(_recipe(), "+ expansion"),
    "only views": BenchmarkArm(_only_views),
    "only teacher": BenchmarkArm(_only_teacher),
    "only optimizer, compact": BenchmarkArm(lambda bench: _only_optimizer(bench, *COMPACT)),
    "only optimizer, expanded": BenchmarkArm(_only_optimizer),
}
