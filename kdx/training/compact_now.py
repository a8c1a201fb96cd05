"""The compact network of a student in training, as it is after each step."""

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from kdx.models.transforms import products, restore
from kdx.protocols import Folding, StudentTransform

__all__ = ["CompactNow"]

CLOSE = 1e-4  # of a tensor's largest value: how near a product is to what is restored in float64


class CompactNow:
    """Gives the compact network of a student, without restoring it each time where that is slow.

    The first time it is restored. Where all transforms are `Folding`, and their products with the
    student's other tensors are what was restored, these are written into that network from then on.
    """

    def __init__(self, student: nn.Module, transforms: Sequence[StudentTransform]) -> None:
        self.student, self.transforms = student, transforms
        self.folds = all(isinstance(each, Folding) for each in transforms)
        self.kept: nn.Module | None = None

    @torch.no_grad()
    def network(self) -> nn.Module:
        """Return it: the student itself without transforms, else valid until the next call."""
        if not self.transforms:
            return self.student
        if self.kept is None or not self.folds:
            self.kept = restore(self.student, self.transforms)
            self.folds = self.folds and all(_are_close(*pair) for pair in self._pairs(self.kept))
        else:
            for kept, now in self._pairs(self.kept):
                assert now is not None, "the tensors are those of the first time"
                kept.copy_(now)
        return self.kept

    def _pairs(self, kept: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield each tensor of the compact network, and what the student has in its place."""
        own = dict(self.student.named_parameters(remove_duplicate=False))
        own |= dict(self.student.named_buffers(remove_duplicate=False))
        now = own | products(self.student, self.transforms)
        for name, tensor in chain(kept.named_parameters(), kept.named_buffers()):
            yield tensor, now.get(name)


def _are_close(kept: Tensor, now: Tensor | None) -> bool:
    if now is None or now.shape != kept.shape or now.dtype != kept.dtype:
        return False
    scale = kept.abs().amax().item() if kept.numel() else 0.0
    return torch.allclose(kept, now, rtol=0, atol=CLOSE * scale, equal_nan=True)
