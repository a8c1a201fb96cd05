"""Views in batches, of which each `rank` of `world` processes takes its part."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kdx.data.counter import Draw, permutation
from kdx.data.views import Batch, Key, Views
from kdx.util.words import counted


class EpochBatches(Sampler[list[Key]]):
    """One rank's part of an epoch's batches, as keys of views.

    The epoch's order of the samples, a function of (seed, epoch), is cut into global batches of
    `batch_size`, and each of these into `world` consecutive parts that differ by one sample at
    most: any number of processes trains on the same global batches, except for a smaller last one:
    see `steps_per_epoch`. With `views`, an epoch shows the views of epoch mod `views`.

    With `repeats`, an epoch has so many views of each of the first n / repeats samples of its
    order, one after the other (Hoffer et al. 2020; n views as before, as of DeiT): those of the
    numbers epoch * repeats, epoch * repeats + 1, ...

    With `labels` [n], an epoch of the same length is balanced: each class that occurs has as many
    of its samples, to one, at places drawn at random. They are taken in the order above, and again
    from its start where a class has too few: then in another view, one that no epoch has again.
    """

    def __init__(
        self,
        n: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        views: int | None = None,
        repeats: int = 1,
        labels: Tensor | None = None,
    ) -> None:
        self.steps = steps_per_epoch(n, batch_size=batch_size, world=world)
        self.n, self.batch_size, self.seed, self.rank, self.world = n, batch_size, seed, rank, world
        self.views, self.repeats, self.classes, self.times = views, repeats, None, 1
        if labels is not None:
            _, self.classes, counts = labels.unique(return_inverse=True, return_counts=True)
            self.times = ceil(ceil(n / len(counts)) / int(counts.min()))  # the most of a sample
        self.set_epoch(0)

    def set_epoch(self, epoch: int, *, first_step: int = 0) -> None:
        """Choose what the next iteration yields: `epoch`, from its step `first_step` on."""
        self.epoch, self.first_step = epoch, first_step

    @property
    def view(self) -> int:
        """The number of the views that are shown, the first if several; one of `views`."""
        return self._number(0)

    @property
    def samples(self) -> int:
        """The number of samples in an epoch's global batches."""
        return sum(map(self.size, range(self.steps)))

    def size(self, step: int) -> int:
        """Return how many samples the global batch of a step has, over all ranks."""
        return min(self.batch_size, self.n - step * self.batch_size)

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[Key]]:
        samples = permutation(self.seed, self.epoch, self.n)
        turns = torch.zeros_like(samples)
        if self.classes is not None:
            samples, turns = _balanced(samples, self.classes, seed=self.seed, epoch=self.epoch)
        drawn = zip(turns.tolist(), samples.tolist(), strict=True)
        order = [
            (self._number(turn * self.repeats + repeat), index)
            for turn, index in islice(drawn, ceil(self.n / self.repeats))
            for repeat in range(self.repeats)
        ][: self.n]
        for step in range(self.first_step, self.steps):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [batch[i] for i in _part(len(batch), self.rank, self.world)]

    def _number(self, repeat: int) -> int:
        number = self.epoch * self.times * self.repeats + repeat
        return number % self.views if self.views else number


def _balanced(samples: Tensor, classes: Tensor, *, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Return samples [n] of which each class has as many, and how often each came before [n].

    `samples` [n] are all in the epoch's order; `classes` [n] of the samples by number, 0..C-1, all
    occur. Which classes have one more, where n / C is not whole, changes from epoch to epoch.
    """
    counts, numbers = classes.bincount(), torch.arange(len(samples))
    grouped = samples[classes[samples].argsort(stable=True)]
    wanted = (permutation(seed, epoch, len(samples), draw=Draw.CLASS) + epoch) % len(counts)
    nth = torch.empty_like(wanted)  # of its class, the sample at each place is
    nth[wanted.argsort(stable=True)] = numbers - _starts(wanted.bincount())[wanted.sort().values]
    counts, starts = counts[wanted], _starts(counts)[wanted]
    return grouped[starts + nth % counts], nth // counts


def _starts(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts


def steps_per_epoch(n: int, *, batch_size: int, world: int = 1) -> int:
    """Return how many global batches an epoch of `n` samples has, the same on all ranks.

    A smaller last batch is kept if it has two samples for every rank: BatchNorm cannot train on
    one. Raises ValueError if a rank would get fewer, or if there is no batch.
    """
    if batch_size < 2 * world:
        shared = f"{world} processes share it" if world > 1 else "BatchNorm cannot train on one"
        problem = f"{batch_size} (global) is too small: {shared}"
        raise ValueError(f"batch_size: {problem}, use {2 * world} or more")
    steps = n // batch_size + (n % batch_size >= 2 * world)
    if steps == 0:
        samples, sharing = counted(n, "training sample"), counted(world, "process", "processes")
        raise ValueError(f"{samples}: not enough for {sharing}, 2 for each")
    return steps


class Loader:
    """Batches of views, whose keys `batches` holds; `workers` make them, stateless.

    Images pass from there as bytes, where they are, and are normalised here, on `device`, in the
    memory format of the training step: a quarter of the data to move.
    """

    def __init__(
        self,
        views: Views,
        batches: Iterable[list[Key]],
        *,
        workers: int = 0,
        device: torch.device | None = None,
        channels_last: bool = False,
    ) -> None:
        self.finished = partial(views.finished, device=device, channels_last=channels_last)
        self.drawn: DataLoader[Batch] = DataLoader(
            _Drawn(views),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=Batch._make,  # as it is: views come as a batch already
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # leaves torch's global generator alone, as of dropout
            worker_init_fn=partial(_leave_signals, os.getpid()),
        )

    def __len__(self) -> int:
        return len(self.drawn)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.finished, self.drawn)


def train_loader(views: Views, batches: Iterable[list[Key]], **how: Any) -> Loader:
    """Return a loader, for the whole run, of the views whose keys `batches` holds.

    The keys carry the epoch, so workers are kept from epoch to epoch. `how` is as of `Loader`.
    """
    return Loader(views, batches, **how)


def eval_loader(
    views: Views, *, batch_size: int, rank: int = 0, world: int = 1, **how: Any
) -> Loader:
    """Return a loader of each sample once over all ranks, in order; a rank may get no batch."""
    part, step = _part(len(views), rank, world), max(1, batch_size // world)
    keys = [[(0, i) for i in part[start : start + step]] for start in range(0, len(part), step)]
    return Loader(views, keys, **how)


def most_batches(n: int, batch_size: int, world: int = 1) -> int:
    """Return how many batches of `n` samples the rank with the most gets from `eval_loader`."""
    return ceil(ceil(n / world) / max(1, batch_size // world))


def cut(batch: Batch, count: int, *, smallest: int | None = None) -> Iterator[Batch]:
    """Cut a batch into at most `count` near-equal parts of two samples or more.

    `smallest` is the size of the smallest process's batch: all have the same number of parts, since
    losses may gather them.
    """
    n = len(batch.targets)
    count = max(1, min(count, (smallest or n) // 2))
    for part in (_part(n, i, count) for i in range(count)):
        yield Batch(*(tensor[part.start : part.stop] for tensor in batch))


def _part(n: int, rank: int, world: int) -> range:
    return range(n * rank // world, n * (rank + 1) // world)


@dataclass(frozen=True)
class _Drawn(Dataset[Batch]):
    """What the workers of a loader do."""

    views: Views

    def __len__(self) -> int:
        return len(self.views)

    def __getitems__(self, keys: list[Key]) -> Batch:
        return self.views.drawn(keys)


def _leave_signals(main: int, worker: int) -> None:
    """Leave signals to the process `main`, whose own SIGTERM still ends the worker."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # not all on Windows
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by, args=(main,), daemon=True).start()


def _end_by(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
