"""The training loop: one for every recipe, teacher or none, one process or many."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdx.data import (
    Batch,
    EpochBatches,
    Views,
    eval_loader,
    most_batches,
    resized,
    train_loader,
)
from kdx.launch.memory import at_once
from kdx.launch.precision import check_compiler
from kdx.launch.processes import join
from kdx.launch.stopping import Stop
from kdx.models.modes import eval_mode
from kdx.models.teacher import Guide, Teacher, live
from kdx.protocols import Holding, ImageSource
from kdx.training.evaluation import Evaluation, evaluate
from kdx.training.job import Job

__all__ = ["Runtime", "accelerator_for", "cores"]


def accelerator_for(job: Job) -> Accelerator:
    """Return the Accelerator of a run: precision as the recipe says, or as the launcher does.

    Sets the number of CPU threads, too: the recipe's, or on the CPU a share of the cores.
    Raises ValueError as `kdx.launch.processes.join`, and for `compile: true` where torch.compile
    does not work.
    """
    join(job.recipe)
    unused = any(stage.unused for stage in job.stages)
    AcceleratorState._reset_state()  # a teacher's recipe may have had another precision
    accelerator = Accelerator(
        mixed_precision=job.recipe.precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
    if accelerator.device.type == "cpu" or job.recipe.threads:
        workers = job.recipe.data.workers
        torch.set_num_threads(job.recipe.threads or _threads(accelerator.num_processes, workers))
    if job.recipe.compile:
        check_compiler(accelerator.device)
    accelerator.wait_for_everyone()  # for a process that cannot build the job: before any writes
    return accelerator


class Runtime:
    """Runs a job's stages on the devices that an Accelerator stands for.

    `guide` is what the losses hear of the teacher: the teacher itself, until a memo is put there.
    """

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
            views=recipe.teacher.memo.views if recipe.teacher and recipe.teacher.memo else None,
        )
        self.guide: Guide | None = live(job.teacher) if job.teacher else None
        self.loader: DataLoader[Batch] = train_loader(
            job.train_views, self.batches, workers=recipe.data.workers
        )
        self.teacher_predictions: Tensor | None = None
        self.stop = Stop(world=self.world)
        job.student.to(accelerator.device)
        if job.teacher:
            job.teacher.to(accelerator.device)
        asked = recipe.channels_last
        half = accelerator.mixed_precision != "no"
        self.channels_last = (accelerator.device.type == "cpu" or half) if asked is None else asked
        self.holds = [t.hold(job.student) for t in job.transforms if isinstance(t, Holding)]

    def prepare(
        self, objective: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return the two as Accelerate wraps them.

        An optimizer stays as it is where it can: Accelerate's own looks for a package on the disk
        at every step (benchmarks/LOG.md). It is for fp16's scaler, and other ways than DDP.
        """
        wrapped, prepared = self.accelerator.prepare(objective, optimizer)
        plain = self.accelerator.distributed_type in ("NO", "MULTI_CPU", "MULTI_GPU")
        return wrapped, optimizer if plain and self.accelerator.scaler is None else prepared

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the transforms save work while the student's parameters do not change."""
        with ExitStack() as stack:
            for hold in self.holds:
                stack.enter_context(hold)
            yield

    def to_device(self, images: Tensor, *, size: int | None = None) -> Tensor:
        """Bring images [B, C, H, W] to the device, in the memory format that the recipe asks.

        There they are resized to `size` pixels a side, where it is given.
        """
        images = resized(images.to(self.accelerator.device, non_blocking=True), size)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def evaluation_source(self) -> tuple[str, ImageSource]:
        """Return the split that each epoch is evaluated on: validation where there is one."""
        splits = self.job.splits
        return ("validation", splits.validation) if splits.validation else ("test", splits.test)

    def evaluate(self, network: nn.Module | Teacher, source: ImageSource) -> Evaluation:
        """Evaluate a network on a split, over all processes; Stopped where that was asked for."""
        job = self.job
        batch_size = min(max(256, job.recipe.data.batch_size), at_once(job.data.input.shape))
        loader = eval_loader(
            Views(source, job.data.input, seed=job.recipe.seed),
            batch_size=batch_size,
            rank=self.rank,
            world=self.world,
            workers=job.recipe.data.workers,
        )
        module = network.module if isinstance(network, Teacher) else network

        def predict(images: Tensor) -> Tensor:
            said = network(self.to_device(images))
            return said if isinstance(said, Tensor) else said.logits

        of_epochs = source is self.evaluation_source()[1]
        with self.accelerator.autocast(), eval_mode(module), self.held():
            return evaluate(
                predict,
                self.stop.watched(loader, most=most_batches(len(source), batch_size, self.world)),
                task=job.task,
                samples=len(source),
                device=self.accelerator.device,
                teacher=self.teacher_predictions if of_epochs else None,
            )

    def agree(self, value: Any) -> Any:
        """Return the main process's `value` on every process."""
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def compile(self) -> None:
        """Compile student and teacher where the recipe says so; it happens at the first batch."""
        if self.job.recipe.compile:
            self.job.student.compile()
            if self.job.teacher:
                self.job.teacher.module.compile()

    def share_buffers(self) -> None:
        """Give every process rank 0's BatchNorm statistics: those of the student that is kept."""
        if self.world > 1:
            for buffer in self.job.student.buffers():
                buffer.copy_(cast("Tensor", broadcast(buffer)))


def _threads(processes: int, workers: int) -> int:
    """The threads of a process: OMP_NUM_THREADS, else its share of the cores without its workers'.

    An OMP_NUM_THREADS of 1 is taken for what `accelerate launch` sets unasked.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "1")
    if asked.isdigit() and int(asked) > 1:
        return int(asked)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(processes)))
    return max(1, cores() // local - workers)


def cores() -> int:
    """The cores that this process may use: by its affinity, and by its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or no quota ("max")
        return cores
