"""Where a job runs: devices, processes, data loaders, evaluation."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn
from torch._functorch import config as functorch
from torch.optim.swa_utils import AveragedModel

from kdx.data import EpochBatches, Views, eval_loader, most_batches, resized, train_loader
from kdx.data.counter import generators_kept
from kdx.launch.cores import share_of_cores
from kdx.launch.memory import at_once
from kdx.launch.precision import breaks_channels_last, check_compiler
from kdx.launch.processes import join
from kdx.launch.stopping import Stop
from kdx.models.average import average_of
from kdx.models.modes import eval_mode
from kdx.models.teacher import TeacherFn, live
from kdx.protocols import Holding, ImageSource, Outputs
from kdx.recipe import Recipe
from kdx.tasks import primary_metric
from kdx.training.compact_now import CompactNow
from kdx.training.evaluation import Evaluation, Observer, evaluate
from kdx.training.job import Job

OWN = "student average"  # no teacher can have this name


def accelerator_for(job: Job) -> Accelerator:
    """Return the Accelerator of a run, with the precision of the recipe or the launcher.

    Sets the number of CPU threads, too: the recipe's, or on the CPU OMP_NUM_THREADS if it is above
    1, or a share of the cores less the loader workers. Errors as `kdx.launch.processes.join`;
    ValueError for `compile: true` if torch.compile does not work.
    """
    recipe = job.recipe
    join(recipe)
    unused = any(stage.unused for stage in job.stages)
    AcceleratorState._reset_state()  # the teacher's run may have had another precision
    accelerator = Accelerator(
        mixed_precision=recipe.precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
    if accelerator.device.type == "cpu" or recipe.threads:
        set_threads(recipe, share_of_cores(accelerator.num_processes), recipe.data.fixed_workers)
    if recipe.compile:
        check_compiler(accelerator.device)
    accelerator.wait_for_everyone()  # nothing is written if a process cannot build the job
    return accelerator


def set_threads(recipe: Recipe, share: int, workers: int) -> None:
    """Set the CPU threads: see `accelerator_for`. `share` are the process's cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "1")  # `accelerate launch` sets it to 1
    chosen = int(asked) if asked.isdigit() and int(asked) > 1 else max(1, share - workers)
    torch.set_num_threads(recipe.threads or chosen)


@contextmanager
def caller_unchanged() -> Iterator[None]:
    """Give the caller's random generators, CPU threads and Accelerate state back afterwards.

    And what `Runtime.compile` sets.
    """
    threads, shared = torch.get_num_threads(), dict(AcceleratorState._shared_state)
    donated = functorch.donated_buffer
    try:
        with generators_kept(range(torch.cuda.device_count())):
            yield
    finally:
        torch.set_num_threads(threads)
        functorch.donated_buffer = donated
        AcceleratorState._shared_state.clear()
        AcceleratorState._shared_state.update(shared)


class Runtime:
    """A job on the devices of an Accelerator.

    `teacher_fns` are the teachers by name, or the memos that stand in for them. `averages` are
    those of the student by name, which `follow` updates: of teachers, and `average`, the recipe's.
    """

    def __init__(self, job: Job, accelerator: Accelerator) -> None:
        self.job, self.accelerator, recipe = job, accelerator, job.recipe
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.batches = EpochBatches(
            len(job.splits.train),
            batch_size=recipe.data.batch_size,
            seed=recipe.seed,
            rank=self.rank,
            world=self.world,
            views=next((t.memo.views for t in recipe.all_teachers.values() if t.memo), None),
            repeats=recipe.data.repeats,
            labels=job.splits.train.labels if recipe.data.sampling == "balanced" else None,
        )
        self.teacher_fns: dict[str, TeacherFn] = {
            name: live(each) for name, each in job.teachers.items()
        }
        self.averages = {name: t.average for name, t in job.teachers.items() if t.average}
        self.average: AveragedModel | None = None
        if recipe.average:
            self.average = average_of(job.compact, recipe.average).to(accelerator.device)
            self.averages[OWN] = self.average
        self.compact = CompactNow(job.student, job.transforms)
        self.teacher_predictions: Tensor | None = None
        self.stop = Stop(world=self.world)
        job.student.to(accelerator.device)
        for teacher in job.teachers.values():
            teacher.to(accelerator.device)
        default = accelerator.mixed_precision != "no" or (
            accelerator.device.type == "cpu" and not breaks_channels_last(job.student)
        )
        self.channels_last = default if recipe.channels_last is None else recipe.channels_last
        self.feed(recipe.data.fixed_workers)
        self.holds = [t.hold(job.student) for t in job.transforms if isinstance(t, Holding)]

    def feed(self, workers: int) -> None:
        """Load the training images by `workers`, and those of evaluations."""
        self.loading: dict[str, Any] = {
            "workers": workers,
            "device": self.accelerator.device,
            "channels_last": self.channels_last,
        }
        self.loader = train_loader(self.job.train_views, self.batches, **self.loading)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the transforms save work while the student's parameters do not change."""
        with ExitStack() as stack:
            for hold in self.holds:
                stack.enter_context(hold)
            yield

    def to_device(self, images: Tensor, *, size: int | None = None) -> Tensor:
        """Move images [B, C, H, W] to the device, in the memory format of the recipe.

        If `size` is given, they are resized there to so many pixels a side.
        """
        images = resized(images.to(self.accelerator.device, non_blocking=True), size)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def teacher_outputs(
        self, names: Iterable[str], images: Tensor, indices: Tensor
    ) -> dict[str, Outputs]:
        """Return the outputs of some teachers for images [B, C, H, W] of samples [B], by name."""
        view = self.batches.view
        return {name: self.teacher_fns[name](images, indices, view=view) for name in names}

    @torch.no_grad()
    def follow(self, averages: Collection[AveragedModel]) -> None:
        """Let averages of the student's compact weights take its weights in."""
        if not averages:
            return
        self.share_buffers()  # from which a transform may compute weights
        compact = self.compact.network()
        for average in averages:
            average.update_parameters(compact)

    def prefers_average(self, student: Mapping[str, float], average: Mapping[str, float]) -> bool:
        """Return whether the average of the student is better than the student, by their metrics.

        With validation images; without, the average is preferred, as what the recipe asks for.
        """
        first = primary_metric(self.job.task)
        held_out = self.job.splits.validation is not None
        return bool(average) and (not held_out or average[first] >= student[first])

    def evaluation_source(self) -> tuple[str, ImageSource]:
        """Return the split that each epoch is evaluated on: validation if there is one."""
        splits = self.job.splits
        return ("validation", splits.validation) if splits.validation else ("test", splits.test)

    def evaluate(
        self,
        network: nn.Module | Callable[[Tensor], Outputs],
        source: ImageSource,
        observe: Sequence[Observer] = (),
    ) -> Evaluation:
        """Evaluate a network on a split, over all processes; Stopped after a signal."""
        job = self.job
        each = max(256, job.recipe.data.batch_size // self.world)
        size = self.world * min(each, at_once(job.data.input.shape))
        views = Views(source, job.data.input, seed=job.recipe.seed)
        loader = eval_loader(
            views, batch_size=size, rank=self.rank, world=self.world, **self.loading
        )

        def predict(images: Tensor) -> Tensor:
            outputs = network(self.to_device(images))
            return outputs if isinstance(outputs, Tensor) else outputs.logits

        module = network if isinstance(network, nn.Module) else nn.Module()  # teachers have theirs
        of_epochs = source is self.evaluation_source()[1]
        with self.accelerator.autocast(), eval_mode(module), self.held():
            return evaluate(
                predict,
                self.stop.watched(loader, most=most_batches(len(source), size, self.world)),
                task=job.task,
                samples=len(source),
                device=self.accelerator.device,
                teacher=self.teacher_predictions if of_epochs else None,
                observe=observe,
            )

    def agree(self, value: Any) -> Any:
        """Return the main process's `value` on every process."""
        return broadcast_object_list([value])[0]

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, which are of one shape, one after the other."""
        return cast("Tensor", self.accelerator.gather(tensor.to(self.accelerator.device)))

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of the tensors of all processes, which are of one shape."""
        return cast("Tensor", self.accelerator.reduce(tensor.to(self.accelerator.device), "sum"))

    def compile(self) -> None:
        """Compile student and teacher, at their first batch, if the recipe says so."""
        if self.job.recipe.compile:
            if self.job.recipe.diagnose:  # the saved tensors serve several backward passes
                functorch.donated_buffer = False
            self.job.student.compile()
            for teacher in self.job.teachers.values():
                teacher.module.compile()

    def share_buffers(self) -> None:
        """Give every process the BatchNorm statistics of rank 0, whose student is kept."""
        self.share(self.job.student.buffers())

    @torch.no_grad()
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the values of rank 0, in place."""
        if self.world > 1:
            for tensor in tensors:
                tensor.copy_(cast("Tensor", broadcast(tensor)))
