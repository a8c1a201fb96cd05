"""Labels and numbers measured by one process, or by one of two that imports little else."""

import torch
from torch import Tensor

from kdx.tasks import MultiLabel, Regression

NUMBERS = Regression(outputs=["a", "b"], mean=[100.0, -3.0], std=[20.0, 0.5])


def labels() -> tuple[Tensor, Tensor]:
    """Return logits [40, 4] and targets: some unknown, of the last label all."""
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(40, 4, generator=generator) > 0.6).float()
    logits = 3 * torch.randn(40, 4, generator=generator) + target
    target[::5, 0], target[:, 3] = -1, -1
    return logits, target


def numbers() -> tuple[Tensor, Tensor]:
    """Return standardized outputs [40, 2] and targets."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(40, 2, generator=generator)
    return target + 0.3 * torch.randn(40, 2, generator=generator), target


def parts(rank: int) -> list[dict[str, float]]:
    """Measure all of the samples in the first of two processes, none in the other."""
    found = []
    for task, (output, target) in ((MultiLabel(num_classes=4), labels()), (NUMBERS, numbers())):
        meter = task.meter(torch.device("cpu"))
        for each in zip(output.split(7), target.split(7), strict=True):
            if rank == 0:
                meter.update(*each)
        found.append(dict(meter.compute()))
    return found
