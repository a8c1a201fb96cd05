"""Sums over the samples of all processes. It takes as long to import as torch: see its users."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Sums(Metric):
    """Sums of a tensor of some shape, in its dtype, over batches and processes."""

    full_state_update = False
    sums: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros_like(like, device="cpu"), "sum")
        self.to(like.device)
        self.update(torch.zeros_like(like))  # a process may have no images

    def update(self, values: Tensor) -> None:
        """Add values."""
        self.sums = self.sums + values

    def compute(self) -> Tensor:
        """Return the sums."""
        return self.sums
