"""`workers: auto`: how many data loader workers feed a run, by a short trial of both sides."""

import time
from collections.abc import Callable, Collection

import torch

from kdx.launch.cores import share_of_cores
from kdx.launch.memory import at_once
from kdx.models.modes import eval_mode
from kdx.training.runtime import Runtime, set_threads
from kdx.util.words import counted

TRIED = 32  # images
STEP = 3  # times as long as the student's forward pass takes a training step
WORTH = 0.9  # of the time without workers: more workers must save more than that


def choose_workers(
    runtime: Runtime, before: int | None = None, *, memos: Collection[str] = ()
) -> str:
    """Set the workers of a run and, on the CPU, its threads; return what was chosen, and why.

    `before` are those that a resumed run had: it keeps them, and so its threads and its rounding,
    if there are enough cores. All processes call it, and choose the same: by the fewest cores that
    one of them has, as machines may differ. `memos` stand in for the teachers of these names.
    """
    own, on_cpu = share_of_cores(runtime.world), runtime.accelerator.device.type == "cpu"
    free = int(runtime.gather(torch.tensor([own])).min())
    if before is not None and before < free:
        chosen, why = before, "as before"
    else:
        draw, step = runtime.agree(_trial(runtime, memos))
        chosen = best_workers(draw, step, cores=free, shared=on_cpu)
        took = f"{1000 * draw:.2f} ms to read and {1000 * step:.2f} ms to train on"
        why = f"of {counted(free, 'core')}: an image takes {took}"
    runtime.feed(chosen)
    if on_cpu:
        set_threads(runtime.job.recipe, own, chosen)
    return f"data.workers: auto: {chosen}, {why}"


def best_workers(draw: float, step: float, *, cores: int, shared: bool) -> int:
    """Return how many of `cores` read images, each one in `draw` seconds on a core.

    `step` are the seconds that an image takes to train on, with all cores if they are `shared`
    with the readers. With w workers the slower side sets the pace: max(draw / w, step), where the
    step has cores - w; without, one waits for the other.
    """

    def seconds(workers: int) -> float:
        if not workers:
            return (draw + step) * WORTH
        return max(draw / workers, step * (cores / (cores - workers) if shared else 1))

    return min(range(cores), key=seconds)


def _trial(runtime: Runtime, memos: Collection[str]) -> tuple[float, float]:
    """Return the seconds that an image takes to be drawn on a core, and about those of its step.

    Changes nothing: forward passes in eval mode stand for the step. The second ones are timed.
    """
    job, views, threads = runtime.job, runtime.job.train_views, torch.get_num_threads()
    teachers = [teacher for name, teacher in job.teachers.items() if name not in memos]
    count = min(TRIED, len(views), at_once(views.shape))
    keys = [(0, index) for index in range(count)]
    torch.set_num_threads(1)  # as in a worker
    draw = min(_timed(lambda: views.drawn(keys)) for _ in range(2))
    torch.set_num_threads(threads)
    images = runtime.to_device(views.__getitems__(keys).images)

    def step() -> None:
        for _ in range(STEP):
            job.student(images)
        for teacher in teachers:
            teacher(images)
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad(), eval_mode(job.student), runtime.accelerator.autocast():
        return draw / count, min(_timed(step) for _ in range(2)) / count


def _timed(part: Callable[[], object]) -> float:
    started = time.perf_counter()
    part()
    return time.perf_counter() - started
