"""One stage of a run: its objective, optimizer and schedule, an epoch at a time."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdx.data import Batch, cut, side
from kdx.training.clipping import clip_gradients
from kdx.training.diagnostics import Diagnostics
from kdx.training.health import GRADIENT, Health, bad_gradients
from kdx.training.leaves import Detached, leaves_of
from kdx.training.log import RunLog
from kdx.training.optimizers import product_decay, stage_optimizer
from kdx.training.runtime import Runtime
from kdx.training.stage_jobs import StageJob

SCALED = 20  # steps in a row that fp16 may skip by default, while its scaler finds its scale


@dataclass
class EpochStats:
    """What one process counts during an epoch.

    `sums` are of the terms over its samples, `seen` the number of these, `samples` that of all
    processes; `seconds` of training, `diagnosed` what `Diagnostics` finds. Of the whole run: the
    number of steps `skipped`, and of those the last ones `in_row`.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    seen: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    in_row: int = 0
    diagnosed: dict[str, list[float]] = field(default_factory=dict)


class StageRunner:
    """A stage's objective, optimizer and schedule, prepared; runs an epoch at a time.

    `may_skip` is the number of steps in a row that may be skipped.
    """

    def __init__(self, runtime: Runtime, stage: StageJob) -> None:
        self.runtime, self.stage, recipe = runtime, stage, runtime.job.recipe
        self.objective = stage.objective
        self.objective.to(runtime.accelerator.device).train()
        self.objective.tapped.attach()
        if recipe.compile:
            torch.compiler.reset()  # compiled code does not see that the taps have changed
        self.trained = [p for p in self.objective.parameters() if p.requires_grad]
        with torch.no_grad():
            section, folded = stage.stage.optimizer, runtime.job.products()
        optimizer, decays = stage_optimizer(section, self.objective, runtime.job.compact, folded)
        if decays:
            self.objective.penalty = lambda: product_decay(decays, runtime.job.products())
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.rate = optimizer.defaults.get("lr", self.base[0])
        accelerator = runtime.accelerator
        self.detached = Detached(self.objective, leaves_of(runtime, self.objective.student))
        self.wrapped, prepared = accelerator.prepare(self.detached, optimizer)
        runtime.share(self.detached.replaced)  # as DDP does with the others
        # Accelerate's optimizer looks for a package on the disk at every step (benchmarks/LOG.md):
        # only fp16's scaler and strategies other than DDP need it.
        plain = accelerator.distributed_type in ("NO", "MULTI_CPU", "MULTI_GPU")
        self.optimizer = optimizer if plain and accelerator.scaler is None else prepared
        rank = f", rank {runtime.rank}" if runtime.world > 1 else ""
        self.health = Health(self.objective, place=f"stage {stage.stage.name!r}{rank}")
        self.diagnostics = Diagnostics(runtime, self.detached, every=recipe.diagnose)
        # fp16's scaler skips steps itself; otherwise a step waits until its gradient is checked.
        self._scaler = accelerator.scaler
        default = 0 if self._scaler is None else SCALED
        self.may_skip = default if recipe.skip_bad_steps is None else recipe.skip_bad_steps
        self._checks_first = self.may_skip > 0 and self._scaler is None
        self.epoch = 0
        averages = runtime.averages
        self.teaching = [averages[name] for name in self.objective.reads if name in averages]
        self.followers = self.teaching
        runtime.follow([average for average in self.teaching if not average.n_averaged])

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

        An interrupted epoch continues at `first_step` with its `stats`. `after` is called after
        each step with the number of steps done. TrainingError if all steps are skipped.
        """
        runtime, steps = self.runtime, self.runtime.batches.steps
        stats = stats or EpochStats()
        self.epoch = epoch
        self.objective.enter(within)
        self.followers = [*self.teaching, *self._averages(epoch, "ema")]
        runtime.batches.set_epoch(epoch, first_step=first_step)
        runtime.share(self.detached.replaced)  # should processors round unlike
        started = time.perf_counter() - stats.seconds
        with log.progress(self.stage.stage.name, epoch + 1, steps) as progress:
            for step, batch in enumerate(runtime.loader, first_step):
                self._set_rate(within * steps + step, steps)
                self.step(batch, runtime.batches.size(step), stats, number=step + 1)
                is_shown = step % runtime.job.recipe.log_every == 0 or step + 1 == steps
                if is_shown:
                    self.health.check(epoch + 1)  # waits for a GPU
                stats.seconds = time.perf_counter() - started
                if is_shown:
                    progress(step + 1, stats.sums, stats.seen)
                if step + 1 == steps:  # before a stop: a resume has nothing left of the epoch
                    runtime.follow(self._averages(epoch, "swa"))
                after(step + 1)
        if not stats.samples:
            what = "every gradient contains NaN or Inf"
            raise self.health.diverged(what, f"all steps of epoch {epoch + 1} were skipped")
        means = {n: runtime.sum(v).item() / stats.samples for n, v in stats.sums.items()}
        weighted = self.objective.weighted(means)
        return {
            "learning_rate": self._set_rate(within * steps + steps - 1, steps),
            "loss/total": sum(weighted.values()),
            **{f"loss/{name}": value for name, value in means.items()},
            **{f"weighted/{name}": value for name, value in weighted.items()},
            **{f"weight/{name}": self.objective.weights[name] for name in self.objective.varying},
            **self.diagnostics.summary(stats.diagnosed),
            **({"skipped_steps": stats.skipped} if self.may_skip else {}),
            "images_per_second": runtime.batches.samples / stats.seconds,
            "seconds": stats.seconds,
        }

    def _averages(self, epoch: int, use: str) -> list[AveragedModel]:
        """Return the recipe's average if it is of this kind and follows in an epoch of the run."""
        asked, own = self.runtime.job.recipe.average, self.runtime.average
        if own is None or asked is None or asked.use != use or not self.stage.is_compact:
            return []
        epochs = sum(each.stage.epochs for each in self.runtime.job.stages)
        return [own] if asked.follows(epoch, epochs) else []

    def finish(self) -> None:
        """Release what the stage holds."""
        self.objective.tapped.detach()
        self.runtime.accelerator.free_memory(self.wrapped, self.optimizer)

    def step(self, batch: Batch, whole: int, stats: EpochStats, *, number: int = 1) -> None:
        """One optimizer step over this process's part of a global batch of `whole` samples.

        `number` counts the steps of the epoch from 1. A step whose gradient is not finite is
        skipped if the recipe allows it; else TrainingError.
        """
        buffers = [b.clone() for b in self.objective.buffers()] if self._checks_first else []
        runtime, recipe, step = self.runtime, self.runtime.job.recipe, number - 1
        size = side(recipe.data.augment.sizes, seed=recipe.seed, epoch=self.epoch, step=step)
        self.diagnostics.start(number)
        with self.detached.held():
            sums = self._backward(batch, whole, size)
        norm = self._gradient_norm()
        if self._checks_first and not norm.isfinite() and bad_gradients(self.objective):
            for buffer, before in zip(self.objective.buffers(), buffers, strict=True):
                buffer.copy_(before)  # BatchNorm has averaged the bad batch in
            skipped = True
        else:
            if self._scaler is None:
                self.health.observe(number, self.epoch + 1, {**sums, GRADIENT: norm})
            scale = self._scaler.get_scale() if self._scaler is not None else 0.0
            self.optimizer.step()
            # A scaler that skips the step lowers its scale; Accelerate misses a fused optimizer's.
            skipped = self._scaler is not None and self._scaler.get_scale() < scale
        if skipped:
            self._skip(stats, number)
        else:
            for name, value in sums.items():
                stats.sums[name] = stats.sums[name] + value if name in stats.sums else value
            runtime.follow(self.followers)
            stats.seen += len(batch.targets)
            stats.samples, stats.in_row = stats.samples + whole, 0
            self.diagnostics.record(stats.diagnosed)
        self.optimizer.zero_grad()

    def _backward(self, batch: Batch, whole: int, size: int | None) -> dict[str, Tensor]:
        """Compute the gradients; return the sums of the terms over the batch's samples."""
        runtime, accelerator = self.runtime, self.runtime.accelerator
        smallest = whole // runtime.world
        parts = list(cut(batch, runtime.job.recipe.accumulate, smallest=smallest))
        sums: dict[str, Tensor] = {}
        for index, (images, targets, indices) in enumerate(parts):
            images = runtime.to_device(images, size=size)
            targets = targets.to(accelerator.device, non_blocking=True)
            asked = indices.to(accelerator.device) if self.objective.wants_indices else None
            last = index + 1 == len(parts)
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                with accelerator.autocast():
                    outputs = runtime.teacher_outputs(self.objective.reads, images, indices)
                with runtime.held():
                    total, terms = self.wrapped(images, targets, outputs, asked)
                self.diagnostics.add(terms, len(targets) / whole)
                # DDP averages over the processes: the result is the mean over the whole batch.
                share = len(targets) * accelerator.num_processes / whole
                total = total if share == 1 else total * share
                total.backward() if self._scaler is None else accelerator.backward(total)
            for name, term in terms.items():
                summed = term.detach().float() * len(targets)
                sums[name] = sums[name] + summed if name in sums else summed
        return sums

    def _gradient_norm(self) -> Tensor:
        """Return the norm of the gradient before it is clipped, as the recipe says."""
        clip, accelerator = self.runtime.job.recipe.clip, self.runtime.accelerator
        if isinstance(clip, int | float):
            norm = accelerator.clip_grad_norm_(self.trained, clip)
            assert norm is not None, "None is for FSDP and DeepSpeed only"
            return norm
        if clip is not None:
            accelerator.unscale_gradients()
            return clip_gradients(self.trained, clip)
        if self._scaler is not None:
            return torch.zeros(())  # the scaler checks by itself
        return nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])

    def _skip(self, stats: EpochStats, number: int) -> None:
        """Count a skipped step; TrainingError if there are too many in a row."""
        stats.skipped, stats.in_row = stats.skipped + 1, stats.in_row + 1
        if stats.in_row > self.may_skip:
            raise self.health.diverged(
                f"gradient contains NaN or Inf: {', '.join(bad_gradients(self.objective)[:4])}",
                f"step {number} of epoch {self.epoch + 1}, {stats.in_row} steps in a row; "
                f"skip_bad_steps is {self.may_skip}",
            )

    def _set_rate(self, step: int, steps_per_epoch: int) -> float:
        steps = self.stage.stage.epochs * steps_per_epoch
        factor = self.stage.schedule(step, steps, steps_per_epoch)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor
        return self.rate * factor
