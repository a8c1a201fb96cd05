"""Cosines between the gradients of mini-batches at a run's checkpoints, stored in the run."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdx import checkpoints
from kdx.data import Batch, cut, side, train_loader
from kdx.data.counter import Draw, seeded
from kdx.models.modes import as_it_was
from kdx.models.transforms import restore
from kdx.training.stage_jobs import StageJob
from kdx_lab.analysis.bands import write_numbers
from kdx_lab.analysis.opening import Opened
from kdx_lab.analysis.similarity import cosine, pair_of_batches

__all__ = ["Kept", "Of", "measure"]

Of = Literal["trained", "folded"]
"""Whose gradient: the trained parameters (e.g. factors), or the equivalent compact network's."""


@dataclass
class Kept:
    """The similarities of a run, by checkpoint, as stored in its directory.

    `parameters` has the size of each tensor whose gradient is taken, by name. An entry of
    `checkpoints` has the digest of the checkpoint that it was computed from.
    """

    path: Path
    of: Of
    parameters: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    format: int = 2  # 1 had the weights of the last epoch, and averages as at the start

    @classmethod
    def of_run(cls, directory: Path, of: Of) -> "Kept":
        """Return what is stored in a directory of analyses; empty if it cannot be read."""
        path = directory / f"similarities_{of}.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["format"] == cls.format:
                return cls(path, of, known["parameters"], known["checkpoints"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls(path, of)

    def similarities(self, checkpoint: Path) -> list[float]:
        """Return what is stored of a checkpoint; empty if it has changed since."""
        entry = self.checkpoints.get(checkpoint.name, {})
        if entry.get("digest") != checkpoints.digest_of(checkpoint):
            return []
        return [float("nan") if value is None else value for value in entry["similarities"]]

    def keep(self, checkpoint: Path, similarities: Sequence[float]) -> None:
        """Store the similarities of a checkpoint on disk."""
        digest = checkpoints.digest_of(checkpoint)
        self.checkpoints[checkpoint.name] = {"digest": digest, "similarities": list(similarities)}
        write_numbers(self.path, {k: v for k, v in asdict(self).items() if k != "path"})


def measure(
    opened: Opened, kept: Kept, checkpoint: Path, pairs: int, advance: Callable[[], object]
) -> bool:
    """Compute and store the similarities of a checkpoint's first `pairs` pairs of mini-batches.

    Stored ones are not computed again; `advance` is called after each computed one. Returns False,
    for `folded`, if the network has no compact equivalent in its phase.
    """
    stage, epoch = opened.load(checkpoint)
    network = _network(opened, kept.of)
    if network is None:
        return False
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    kept.parameters = {name: p.numel() for name, p in trained.items()}
    gradient = partial(_gradient, opened, stage, list(trained.values()))
    recipe, known = opened.job.recipe, kept.similarities(checkpoint)
    stage.objective.move_to(network)
    stage.objective.tapped.attach()
    try:
        with as_it_was(stage.objective):
            for pair, first, second in _pairs(opened, epoch, range(len(known), pairs)):
                size = side(recipe.data.augment.sizes, seed=recipe.seed, epoch=epoch, step=pair)
                with seeded(recipe.seed, epoch, pair, Draw.PAIR):  # dropout draws from it
                    known.append(cosine(gradient(first, size), gradient(second, size)))
                advance()
    finally:
        stage.objective.tapped.detach()
        stage.objective.move_to(opened.job.student)
    kept.keep(checkpoint, known)
    return True


def _network(opened: Opened, of: Of) -> nn.Module | None:
    student = opened.job.student
    if of == "trained":
        return student
    try:
        return restore(student, opened.job.transforms)
    except ValueError:  # the nonlinear phase
        return None


def _pairs(opened: Opened, epoch: int, wanted: range) -> Iterator[tuple[int, Batch, Batch]]:
    """Yield pairs of mini-batches by number: views of `epoch`, of the recipe's batch size."""
    recipe, batches, views = opened.job.recipe, opened.runtime.batches, opened.job.train_views
    batches.set_epoch(epoch)
    n, size = len(views), recipe.data.batch_size
    drawn = (pair_of_batches(n, size, seed=recipe.seed, epoch=epoch, pair=pair) for pair in wanted)
    keys = [[(batches.view, index) for index in batch] for pair in drawn for batch in pair]
    loader = iter(train_loader(views, keys, workers=recipe.data.fixed_workers))
    for pair in wanted:
        yield pair, next(loader), next(loader)


def _gradient(
    opened: Opened,
    stage: StageJob,
    parameters: Sequence[nn.Parameter],
    batch: Batch,
    size: int | None,
) -> Tensor:
    """Return the gradient of a stage's objective on a batch, [n] float32 on the CPU.

    In the micro-batches of gradient accumulation, as in training.
    """
    runtime, objective = opened.runtime, stage.objective
    total = torch.zeros(sum(p.numel() for p in parameters))
    for images, targets, indices in cut(batch, opened.job.recipe.accumulate):
        images = runtime.to_device(images, size=size)
        outputs = runtime.teacher_outputs(objective.reads, images, indices)
        with runtime.held():
            where = runtime.accelerator.device
            loss, _ = objective(images, targets.to(where), outputs, indices.to(where))
        grads = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        share = len(targets) / len(batch.targets)
        total += share * torch.cat([grad.flatten() for grad in grads]).float().cpu()
    return total
