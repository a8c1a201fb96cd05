"""Sums over the samples of all processes, which metrics are made of. N: samples or pixels."""

import torch
from torch import Tensor, distributed

from kdx.protocols import IGNORED


def wide(value: Tensor) -> Tensor:
    """Return a tensor in float64, where the device has it."""
    return value if value.device.type == "mps" else value.to(torch.float64)


class Sums:
    """Sums of a tensor of some shape, in its dtype and on its device, over batches and processes.

    In whole numbers the sums are the same in any order of the samples.
    """

    def __init__(self, like: Tensor) -> None:
        self.sums = torch.zeros_like(like)

    def update(self, values: Tensor) -> None:
        """Add values."""
        self.sums += values

    def compute(self) -> Tensor:
        """Return the sums over all processes; each of them must call this."""
        total = self.sums.clone()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(total)
        return total


class Mean:
    """Mean over the samples of all processes; NaN without any."""

    def __init__(self, device: torch.device) -> None:
        self.sums = Sums(wide(torch.zeros(2, device=device)))

    def update(self, values: Tensor) -> None:
        """Take values [N]."""
        values = wide(values)
        self.sums.update(torch.stack([values.sum(), values.new_full((), len(values))]))

    def compute(self) -> float:
        """Return the mean."""
        total, count = self.sums.compute()
        return float(total / count)


class Confusion:
    """How often each class [0, C) was taken for each, over all processes."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = classes
        self.sums = Sums(torch.zeros(classes, classes, dtype=torch.int64, device=device))

    def update(self, decided: Tensor, target: Tensor) -> None:
        """Take classes [N, ...] and true ones [N, ...]; where these are -100, none is counted."""
        pairs = (target * self.classes + decided)[target != IGNORED]
        ones = pairs.new_ones(()).expand(len(pairs))
        self.sums.sums.view(-1).index_add_(0, pairs, ones)  # C x C counts take longer than a batch

    def compute(self) -> Tensor:
        """Return the counts [C, C], the true class by row."""
        return self.sums.compute()
