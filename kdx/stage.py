"""One stage of a run: its objective, optimizer and schedule, an epoch at a time."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from kdx.build import StageJob
from kdx.data import Batch
from kdx.log import RunLog
from kdx.optimizers import build_optimizer

if TYPE_CHECKING:
    from kdx.loop import Loop

__all__ = ["StageRunner", "TrainingError", "cut"]


class TrainingError(Exception):
    """Training came to nothing: a loss is no finite number any more."""


class StageRunner:
    """One stage's objective, optimizer and schedule, prepared; runs an epoch at a time."""

    def __init__(self, loop: "Loop", stage: StageJob) -> None:
        self.loop, self.stage = loop, stage
        self.objective = stage.objective
        self.objective.to(loop.accelerator.device).train()
        self.objective.attach()
        if loop.job.recipe.compile:
            torch.compiler.reset()  # what is compiled does not see that the taps have changed
        trained = [p for p in self.objective.parameters() if p.requires_grad]
        optimizer = build_optimizer(stage.stage.optimizer, trained)
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.wrapped: nn.Module
        self.optimizer: torch.optim.Optimizer
        self.wrapped, self.optimizer = loop.accelerator.prepare(self.objective, optimizer)

    def run(self, epoch: int, within: int, log: RunLog) -> dict[str, float]:
        """Train for an epoch (the run's `epoch`, the stage's `within`); return its means."""
        loop, steps = self.loop, self.loop.batches.steps
        loop.batches.set_epoch(epoch)
        sums: dict[str, Tensor] = {}
        seen, rate = 0, 0.0
        started = time.perf_counter()
        with log.progress(self.stage.stage.name, epoch + 1, steps) as progress:
            for step, batch in enumerate(loop.loader):
                rate = self._set_rate(within * steps + step, steps)
                size = self.step(batch, loop.batches.size(step), sums)
                seen += size
                if step % loop.job.recipe.log_every == 0 or step + 1 == steps:
                    losses = {name: float(value) / seen for name, value in sums.items()}
                    self._check_finite(losses, f"by step {step + 1} of epoch {epoch + 1}")
                    progress(step + 1, losses)
        seconds = time.perf_counter() - started
        samples = loop.batches.samples
        means = self._means(sums, samples)
        weighted = self.objective.weighted(means)
        return {
            "learning_rate": rate,
            "loss/total": sum(weighted.values()),
            **{f"loss/{name}": value for name, value in means.items()},
            **{f"weighted/{name}": value for name, value in weighted.items()},
            "images_per_second": samples / seconds,
            "seconds": seconds,
        }

    def finish(self) -> None:
        """Release what the stage held, for the next one."""
        self.objective.detach()
        self.loop.accelerator.free_memory(self.wrapped, self.optimizer)

    def step(self, batch: Batch, whole: int, sums: dict[str, Tensor]) -> int:
        """One optimizer step over this process's part of a global batch of `whole` samples."""
        accelerator, recipe = self.loop.accelerator, self.loop.job.recipe
        guide, view = self.loop.guide, self.loop.batches.view
        wanted = self.objective.reads_teacher
        parts = list(cut(batch, recipe.accumulate))
        for index, (images, labels, indices) in enumerate(parts):
            images = self.loop.to_device(images)
            labels = labels.to(accelerator.device, non_blocking=True)
            last = index + 1 == len(parts)
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                with accelerator.autocast():
                    said = guide(images, indices, view=view) if guide and wanted else None
                with self.loop.held():
                    total, terms = self.wrapped(images, labels, said)
                # DDP averages over the processes: a mean over the whole batch comes out.
                accelerator.backward(total * (len(labels) * accelerator.num_processes / whole))
            for name, term in terms.items():
                summed = term.detach().float() * len(labels)
                sums[name] = sums[name] + summed if name in sums else summed
        if recipe.clip:
            accelerator.clip_grad_norm_(self.wrapped.parameters(), recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return len(batch.labels)

    def _set_rate(self, step: int, steps_per_epoch: int) -> float:
        factor = self.stage.schedule(
            step, self.stage.stage.epochs * steps_per_epoch, steps_per_epoch
        )
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor
        return self.base[0] * factor

    def _means(self, sums: dict[str, Tensor], samples: int) -> dict[str, float]:
        """Means over the samples of all processes."""
        reduce = self.loop.accelerator.reduce
        return {n: cast("Tensor", reduce(v, "sum")).item() / samples for n, v in sums.items()}

    def _check_finite(self, losses: Mapping[str, float], when: str) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"stage {self.stage.stage.name!r}: the loss {name!r} became {value} {when}: "
                    "lower optimizer.lr, set `clip: 1.0`, or use a warm-up"
                )


def cut(batch: Batch, count: int) -> Iterator[Batch]:
    """Cut a batch into at most `count` near-equal parts of two samples or more."""
    n = len(batch.labels)
    count = max(1, min(count, n // 2))
    bounds = [n * i // count for i in range(count + 1)]
    for start, end in pairwise(bounds):
        yield Batch(*(tensor[start:end] for tensor in batch))
