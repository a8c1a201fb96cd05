"""How far the layers that a transform has rewritten are from the compact ones at the start."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdx.launch.memory import at_once
from kdx.models.modes import as_it_was
from kdx.models.transforms import restore
from kdx.training.job import Job
from kdx.util.copies import copied

FAR = {"weights": 10.0, "gradients": 20.0}  # times larger, and of weights times smaller
STEP = 1e-4  # a learning rate: small, as only the direction and the size count
SHOWN = 3


def start_notes(job: Job) -> list[str]:
    """Return a note if weights or their gradients begin far from the compact network's, else none.

    The gradient of a weight that is a product of factors is what a small step of SGD on the factors
    changes in it, by the step: ten times as much is a learning rate ten times as high. Both are
    compared by their root mean squares, on a batch, with the losses of the first stage; gradients
    that are too small do no harm.
    """
    if not job.transforms:
        return []
    before, found = dict(_starts(job, job.compact, rewritten=False)), []
    kept = {name for name, _ in job.student.named_parameters()}
    for name, now in _starts(job, job.student, rewritten=True):
        if name in before.keys() - kept:
            weight, gradient = (_ratio(*each) for each in zip(now, before[name], strict=True))
            far = max(weight, 1 / weight, gradient * FAR["weights"] / FAR["gradients"])
            if far > FAR["weights"]:
                found.append((far, f"{name} {weight:.2g} and {gradient:.2g}"))
    if not found:
        return []
    worst = ", ".join(text for _, text in sorted(found, reverse=True)[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return [
        f"at the start, weights and gradients are far from the compact network's, times: {worst}"
        f"{more}. If training diverges, lower the learning rate or rewrite fewer layers"
    ]


def _starts(
    job: Job, network: nn.Module, *, rewritten: bool
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield the root mean squares of each weight and of its gradient, by its compact name."""
    network, stage = copied(network), job.stages[0]
    most = min(32, max(2, at_once(job.train_views.shape)), job.recipe.data.batch_size)
    keys = [(0, index) for index in range(min(most, len(job.train_views)))]
    images, targets, indices = job.train_views.__getitems__(keys)

    def compact() -> dict[str, Tensor]:
        made = restore(network, job.transforms) if rewritten else network
        return {n: p.detach().double().clone() for n, p in made.named_parameters() if p.ndim > 1}

    own = stage.objective.student
    stage.objective.move_to(network)
    stage.objective.tapped.attach()
    try:
        with as_it_was(stage.objective):
            outputs = {name: job.teachers[name](images) for name in stage.objective.reads}
            total, _ = stage.objective(images, targets, outputs, indices)
            trained = [p for p in network.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(total, trained, allow_unused=True)
    finally:
        stage.objective.move_to(own)
    start = compact()
    with torch.no_grad():
        for parameter, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                parameter -= STEP * gradient
    for name, value in compact().items():
        yield name, (_rms(start[name]), _rms(value - start[name]) / STEP)


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()


def _ratio(now: float, before: float) -> float:
    """Return now / before; 1 if either is 0, as of a layer that gets no gradient."""
    return now / before if now and before else 1.0
