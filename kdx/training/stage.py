"""One stage of a run: its objective, optimizer and schedule, an epoch at a time."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from kdx.data import Batch, cut, side
from kdx.training.health import ADVICE, GRADIENT, SHOWN, Health, bad_gradients
from kdx.training.job import StageJob
from kdx.training.log import RunLog
from kdx.training.optimizers import build_optimizer
from kdx.training.runtime import Runtime
from kdx.util.errors import TrainingError

__all__ = ["EpochStats", "StageRunner"]

SCALED = 20  # steps in a row that fp16 may skip unasked, while its scaler finds its scale


@dataclass
class EpochStats:
    """What one process counts while an epoch is under way.

    `sums` are of the terms over its samples, `seen` the number of these, `samples` that of all
    processes; `seconds` of training. Of the whole run: the steps that were `skipped`, and how
    many of them came last, `in_row`.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    seen: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    in_row: int = 0

    def of_next_epoch(self) -> "EpochStats":
        """Return a new tally that goes on counting the run's."""
        return EpochStats(skipped=self.skipped, in_row=self.in_row)


class StageRunner:
    """One stage's objective, optimizer and schedule, prepared; runs an epoch at a time."""

    def __init__(self, runtime: Runtime, stage: StageJob) -> None:
        self.runtime, self.stage = runtime, stage
        self.objective = stage.objective
        self.objective.to(runtime.accelerator.device).train()
        self.objective.attach()
        if runtime.job.recipe.compile:
            torch.compiler.reset()  # what is compiled does not see that the taps have changed
        self.trained = [p for p in self.objective.parameters() if p.requires_grad]
        optimizer = build_optimizer(stage.stage.optimizer, self.trained)
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.wrapped: nn.Module
        self.optimizer: torch.optim.Optimizer
        self.wrapped, self.optimizer = runtime.prepare(self.objective, optimizer)
        rank = f", rank {runtime.rank}" if runtime.world > 1 else ""
        self.health = Health(self.objective, place=f"stage {stage.stage.name!r}{rank}")
        self.epoch = 0

    def run(
        self,
        epoch: int,
        within: int,
        log: RunLog,
        *,
        stats: EpochStats | None = None,
        first_step: int = 0,
        after: Callable[[int], object] = lambda step: None,
    ) -> dict[str, float]:
        """Train for an epoch (the run's `epoch`, the stage's `within`); return its means.

        One that was under way goes on at `first_step` with its `tally`. `after` is called with
        the number of steps done, after each.
        """
        runtime, steps = self.runtime, self.runtime.batches.steps
        stats = stats or EpochStats()
        self.epoch = epoch
        runtime.batches.set_epoch(epoch, first_step=first_step)
        started = time.perf_counter() - stats.seconds
        with log.progress(self.stage.stage.name, epoch + 1, steps) as progress:
            for step, batch in enumerate(runtime.loader, first_step):
                self._set_rate(within * steps + step, steps)
                self.step(batch, runtime.batches.size(step), stats, number=step + 1)
                stats.seconds = time.perf_counter() - started
                if step % runtime.job.recipe.log_every == 0 or step + 1 == steps:
                    self.health.check(epoch + 1)
                    progress(step + 1, stats.sums, stats.seen)
                after(step + 1)
        if not stats.samples:
            raise TrainingError(
                f"{self.health.place}: every step of epoch {epoch + 1} was left out, since its "
                f"gradient was infinite or no number: {ADVICE}"
            )
        means = self._means(stats)
        weighted = self.objective.weighted(means)
        return {
            "learning_rate": self._set_rate(within * steps + steps - 1, steps),
            "loss/total": sum(weighted.values()),
            **{f"loss/{name}": value for name, value in means.items()},
            **{f"weighted/{name}": value for name, value in weighted.items()},
            **({"skipped_steps": stats.skipped} if self.may_skip else {}),
            "images_per_second": runtime.batches.samples / stats.seconds,
            "seconds": stats.seconds,
        }

    def finish(self) -> None:
        """Release what the stage held, for the next one."""
        self.objective.detach()
        self.runtime.accelerator.free_memory(self.wrapped, self.optimizer)

    def check(self) -> None:
        """Raise TrainingError where anything has become infinite or no number."""
        self.health.check(self.epoch + 1)
        self.health.check_weights()

    def step(self, batch: Batch, whole: int, stats: EpochStats, *, number: int = 1) -> None:
        """One optimizer step over this process's part of a global batch of `whole` samples.

        `number` counts the steps of the epoch from 1, for errors. A step whose gradient is not
        finite is left out where the recipe allows it.
        """
        buffers = [b.clone() for b in self.objective.buffers()] if self._checks_first else []
        sizes, seed = self.runtime.job.recipe.data.augment.sizes, self.runtime.job.recipe.seed
        size = side(sizes, seed=seed, epoch=self.epoch, step=number - 1)
        sums = self._backward(batch, whole, size)
        norm = self._gradient_norm()
        if self._checks_first and not norm.isfinite() and bad_gradients(self.objective):
            for buffer, before in zip(self.objective.buffers(), buffers, strict=True):
                buffer.copy_(before)  # BatchNorm has averaged the bad batch in
            self._skip(stats, number)
        else:
            if not self._is_scaled:
                self.health.observe(number, self.epoch + 1, {**sums, GRADIENT: norm})
            if self._update_was_skipped():
                self._skip(stats, number)
            else:
                self._count(stats, sums, len(batch.targets), whole)
        self.optimizer.zero_grad()

    @property
    def may_skip(self) -> int:
        """How many steps in a row may be skipped."""
        asked = self.runtime.job.recipe.skip_bad_steps
        return (SCALED if self._is_scaled else 0) if asked is None else asked

    @property
    def _is_scaled(self) -> bool:
        """Whether fp16's scaler multiplies the gradients, and skips by itself."""
        return self.runtime.accelerator.scaler is not None

    @property
    def _checks_first(self) -> bool:
        """Whether a step waits for its gradient to be looked at."""
        return self.may_skip > 0 and not self._is_scaled

    def _update_was_skipped(self) -> bool:
        """Step the optimizer; say whether fp16's scaler kept it from that.

        The scaler lowers its scale then. Accelerate's own word is not taken: it sees no skip by an
        optimizer that is fused, which skips by itself.
        """
        scaler = self.runtime.accelerator.scaler
        scale = scaler.get_scale() if scaler is not None else 0.0
        self.optimizer.step()
        return scaler is not None and scaler.get_scale() < scale

    def _backward(self, batch: Batch, whole: int, size: int | None) -> dict[str, Tensor]:
        """Bring the gradients; return the sums of the terms over the batch's samples."""
        accelerator, recipe = self.runtime.accelerator, self.runtime.job.recipe
        guide, view = self.runtime.guide, self.runtime.batches.view
        wanted = self.objective.reads_teacher
        parts = list(cut(batch, recipe.accumulate))
        sums: dict[str, Tensor] = {}
        for index, (images, targets, indices) in enumerate(parts):
            images = self.runtime.to_device(images, size=size)
            targets = targets.to(accelerator.device, non_blocking=True)
            last = index + 1 == len(parts)
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                with accelerator.autocast():
                    said = guide(images, indices, view=view) if guide and wanted else None
                with self.runtime.held():
                    total, terms = self.wrapped(images, targets, said)
                # DDP averages over the processes: a mean over the whole batch comes out.
                share = len(targets) * accelerator.num_processes / whole
                total = total if share == 1 else total * share
                accelerator.backward(total) if self._is_scaled else total.backward()
            for name, term in terms.items():
                summed = term.detach().float() * len(targets)
                sums[name] = sums[name] + summed if name in sums else summed
        return sums

    def _gradient_norm(self) -> Tensor:
        """Return the norm of the gradient, clipped where the recipe says so."""
        accelerator, clip = self.runtime.accelerator, self.runtime.job.recipe.clip
        if self._is_scaled and not clip:
            return torch.zeros(())  # the scaler looks at it by itself
        if clip:
            norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), clip)
            assert norm is not None, "only of FSDP and DeepSpeed there may be none"
            return norm
        return nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])

    def _count(self, stats: EpochStats, sums: Mapping[str, Tensor], size: int, whole: int) -> None:
        for name, value in sums.items():
            stats.sums[name] = stats.sums[name] + value if name in stats.sums else value
        stats.seen, stats.samples, stats.in_row = stats.seen + size, stats.samples + whole, 0

    def _skip(self, stats: EpochStats, number: int) -> None:
        """Count a step that is left out; TrainingError where there are too many in a row."""
        stats.skipped, stats.in_row = stats.skipped + 1, stats.in_row + 1
        if stats.in_row > self.may_skip:
            bad = ", ".join(bad_gradients(self.objective)[:SHOWN])
            place = f"{self.health.place}: step {number} of epoch {self.epoch + 1}"
            raise TrainingError(
                f"{place}: the gradient ({bad}) is infinite or no number for {stats.in_row} steps "
                f"in a row, and skip_bad_steps is {self.may_skip}: {ADVICE}"
            )

    def _set_rate(self, step: int, steps_per_epoch: int) -> float:
        factor = self.stage.schedule(
            step, self.stage.stage.epochs * steps_per_epoch, steps_per_epoch
        )
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor
        return self.base[0] * factor

    def _means(self, stats: EpochStats) -> dict[str, float]:
        """Means over the samples of all processes."""
        reduce, samples = self.runtime.accelerator.reduce, stats.samples
        return {n: cast("Tensor", reduce(v, "sum")).item() / samples for n, v in stats.sums.items()}
