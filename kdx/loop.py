"""The training loop: one for every recipe, teacher or none, one process or many."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdx.build import Job, StageJob
from kdx.data import Batch, EpochBatches, Views, eval_loader, train_loader
from kdx.evaluation import Evaluation, eval_mode, evaluate
from kdx.log import RunLog
from kdx.protocols import ImageSource
from kdx.teacher import Teacher

__all__ = ["Fitted", "Loop", "StageRunner", "accelerator_for"]


@dataclass(frozen=True)
class Fitted:
    """The outcome of training. Epochs count from 1; seconds are those of training alone."""

    last: dict[str, float]
    best: dict[str, float]
    best_epoch: int
    epochs: int
    seconds: float
    images: int


def accelerator_for(job: Job) -> Accelerator:
    """Return the Accelerator of a run: precision as the recipe says, or as the launcher does."""
    unused = any(stage.unused for stage in job.stages)
    AcceleratorState._reset_state()  # a teacher's recipe may have had another precision
    accelerator = Accelerator(
        mixed_precision=job.recipe.precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
    if accelerator.device.type == "cpu":
        # `accelerate launch` sets OMP_NUM_THREADS=1: use the cores, shared by the processes.
        local = int(os.environ.get("LOCAL_WORLD_SIZE", str(accelerator.num_processes)))
        torch.set_num_threads(max(1, _cores() // local))
    return accelerator


class Loop:
    """Runs a job's stages on the devices that an Accelerator stands for."""

    def __init__(self, job: Job, accelerator: Accelerator) -> None:
        self.job, self.accelerator = job, accelerator
        recipe, self.rank, self.world = (
            job.recipe, accelerator.process_index, accelerator.num_processes)  # fmt: skip
        self.batches = EpochBatches(
            len(job.splits.train),
            batch_size=recipe.data.batch_size,
            seed=recipe.seed,
            rank=self.rank,
            world=self.world,
        )
        self.loader: DataLoader[Batch] = train_loader(
            job.train_views, self.batches, workers=recipe.data.workers
        )
        self.teacher_predictions: Tensor | None = None
        job.student.to(accelerator.device)
        if job.teacher:
            job.teacher.to(accelerator.device)

    def evaluation_source(self) -> tuple[str, ImageSource]:
        """Return the split that each epoch is evaluated on: validation where there is one."""
        splits = self.job.splits
        return ("validation", splits.validation) if splits.validation else ("test", splits.test)

    def evaluate(self, network: nn.Module | Teacher, source: ImageSource) -> Evaluation:
        """Evaluate a network on a split, over all processes."""
        job = self.job
        loader = eval_loader(
            Views(source, job.data.input, seed=job.recipe.seed),
            batch_size=max(256, job.recipe.data.batch_size),
            rank=self.rank,
            world=self.world,
        )
        module = network.module if isinstance(network, Teacher) else network
        of_epochs = source is self.evaluation_source()[1]
        with self.accelerator.autocast(), eval_mode(module):
            return evaluate(
                (lambda images: network(images).logits) if network is not module else module,
                loader,
                samples=len(source),
                classes=job.classes,
                device=self.accelerator.device,
                teacher=self.teacher_predictions if of_epochs else None,
            )

    def fit(self, log: RunLog) -> Fitted:
        """Train all stages; evaluate, log and checkpoint each epoch that the recipe says."""
        epoch, seconds, images, best, best_epoch, metrics = 0, 0.0, 0, {}, 0, {}
        total = sum(stage.stage.epochs for stage in self.job.stages)
        for stage in self.job.stages:
            self.job.enter(stage.stage.phase)
            runner = StageRunner(self, stage)
            for within in range(stage.stage.epochs):
                epoch += 1
                trained = runner.run(epoch - 1, within, log)
                seconds += trained["seconds"]
                images += self.batches.samples
                if epoch % self.job.recipe.evaluate_every and within + 1 < stage.stage.epochs:
                    log.epoch(epoch, stage.stage.name, trained)
                    continue
                self._share_buffers()
                name, source = self.evaluation_source()
                metrics = self.evaluate(self.job.student, source).metrics
                named = {f"{name}/{key}": value for key, value in metrics.items()}
                is_best = metrics["top1"] > best.get("top1", -1.0)
                best, best_epoch = (metrics, epoch) if is_best else (best, best_epoch)
                log.epoch(epoch, stage.stage.name, trained | named)
                log.checkpoint(
                    runner.objective, epoch, stage.stage, named, best=is_best, last=epoch == total
                )
            runner.finish()
        return Fitted(metrics, best, best_epoch, epoch, seconds, images)

    def agree(self, value: Any) -> Any:
        """Return the main process's `value` on every process."""
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def _share_buffers(self) -> None:
        """Give every process rank 0's BatchNorm statistics: those of the student that is kept."""
        if self.world > 1:
            for buffer in self.job.student.buffers():
                buffer.copy_(cast("Tensor", broadcast(buffer)))


class StageRunner:
    """One stage's objective, optimizer and schedule, prepared; runs an epoch at a time."""

    def __init__(self, loop: Loop, stage: StageJob) -> None:
        self.loop, self.stage = loop, stage
        self.objective = stage.objective
        self.objective.to(loop.accelerator.device).train()
        self.objective.attach()
        trained = [p for p in self.objective.parameters() if p.requires_grad]
        optimizer = stage.stage.optimizer.build(params=trained)
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
                    progress(step + 1, {k: float(v) / max(1, seen) for k, v in sums.items()})
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
        parts = list(_parts(batch, recipe.accumulate))
        for index, (images, labels, _) in enumerate(parts):
            images = images.to(accelerator.device, non_blocking=True)
            labels = labels.to(accelerator.device, non_blocking=True)
            last = index + 1 == len(parts)
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                teacher = self.loop.job.teacher
                with accelerator.autocast():
                    said = teacher(images) if teacher else None
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
        """Means over the samples of all processes; ValueError where one is not a number."""
        means = {}
        for name, value in sums.items():
            summed = cast("Tensor", self.loop.accelerator.reduce(value, "sum"))
            means[name] = summed.item() / samples
            if not math.isfinite(means[name]):
                raise ValueError(
                    f"stage {self.stage.stage.name!r}: the loss {name!r} became {means[name]}: "
                    "lower optimizer.lr, set `clip: 1.0`, or use a warm-up"
                )
        return means


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parts(batch: Batch, count: int) -> Iterator[Batch]:
    """Cut a batch into at most `count` near-equal parts of two samples or more."""
    n = len(batch.labels)
    count = max(1, min(count, n // 2))
    bounds = [n * i // count for i in range(count + 1)]
    for start, end in pairwise(bounds):
        yield Batch(*(tensor[start:end] for tensor in batch))
