"""Neuron selectivity transfer (Huang & Wang 2017). B: batch, C: channels, N: positions."""

from torch import Tensor

from kdx.losses.align import with_positions
from kdx.losses.pairs import PairLoss
from kdx.losses.relations import unit_rows

__all__ = ["NST"]


class NST(PairLoss):
    """The squared maximum mean discrepancy between the channels of two maps, mean over the batch.

    Each channel is a sample: its map, flattened and scaled to length 1. With the polynomial kernel
    k(a, b) = (a . b)^2 (section 3.2): mean k(t, t') + mean k(s, s') - 2 mean k(s, t). Maps of
    different sizes are average-pooled to the smaller one first. Channels may differ. The authors
    use weight 50.
    """

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from maps or tokens; ValueError for one position, as of vectors."""
        student, teacher = (unit_rows(each.flatten(2)) for each in with_positions(student, teacher))
        # (a . b)^2 is the product of the matrices a a^T and b b^T, and so the discrepancy is the
        # distance of their means [B, N, N]. The other form has [B, C, C].
        if student.shape[2] <= max(student.shape[1], teacher.shape[1]):
            first, second = (
                each.transpose(1, 2) @ each / each.shape[1] for each in (student, teacher)
            )
            return (first - second).square().sum((1, 2)).mean()
        return _kernel(teacher, teacher) + _kernel(student, student) - 2 * _kernel(student, teacher)


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of (a . b)^2 over samples and channels [B, C, N]."""
    return (first @ second.transpose(1, 2)).square().mean()
