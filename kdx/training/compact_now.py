"""The compact network of a student in training, as it is after each step.

It depends on the student alone, not on earlier calls: a resumed run takes the same bits in.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from kdx.models.transforms import disturbed, products, restore
from kdx.protocols import Folding, StudentTransform

__all__ = ["CompactNow"]

CLOSE = 1e-4  # of a tensor's largest value: how near a product is to what is restored in float64


class CompactNow:
    """Gives the compact network of a student, without restoring it each time where that is slow.

    Where all transforms are `Folding`, and of a disturbed student their products and its other
    tensors are what is restored, these are written into one network that was restored before.
    """

    def __init__(self, student: nn.Module, transforms: Sequence[StudentTransform]) -> None:
        self.student, self.transforms = student, transforms
        self.kept: nn.Module | None = None
        self.folds: bool | None = None  # not tried yet

    @torch.no_grad()
    def network(self) -> nn.Module:
        """Return it: the student itself without transforms, else valid until the next call."""
        if not self.transforms:
            return self.student
        if self.folds is None:
            self.folds = self._do_products_suffice()
        if not self.folds:
            return restore(self.student, self.transforms)
        if self.kept is None:
            self.kept = restore(self.student, self.transforms)
        for kept, now in self._pairs(self.kept, self.student):
            assert now is not None, "the tensors are those of the disturbed student"
            kept.copy_(now)
        return self.kept

    def _do_products_suffice(self) -> bool:
        if not all(isinstance(each, Folding) for each in self.transforms):
            return False
        student = disturbed(self.student)
        pairs = self._pairs(restore(student, self.transforms), student)
        return all(_are_close(*pair) for pair in pairs)

    def _pairs(self, kept: nn.Module, student: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield each tensor of a compact network, and what its student has in its place."""
        own = dict(student.named_parameters(remove_duplicate=False))
        own |= dict(student.named_buffers(remove_duplicate=False))
        now = own | products(student, self.transforms)
        for name, tensor in chain(kept.named_parameters(), kept.named_buffers()):
            yield tensor, now.get(name)


def _are_close(kept: Tensor, now: Tensor | None) -> bool:
    if now is None or now.shape != kept.shape or now.dtype != kept.dtype:
        return False
    scale = kept.abs().amax().item() if kept.numel() else 0.0
    return torch.allclose(kept, now, rtol=0, atol=CLOSE * scale, equal_nan=True)
