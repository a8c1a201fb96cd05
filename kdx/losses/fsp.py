"""Flow of the solution procedure (Yim et al. 2017). B: batch, C: channels, H, W: sizes."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from kdx.losses.align import maps_of_one_size
from kdx.losses.pairs import layer_pairs, read_pairs
from kdx.losses.shared import full_precision
from kdx.protocols import Outputs

__all__ = ["FSP"]


class FSP:
    """The mean squared difference of the FSP matrices, summed over neighbours in `layers`.

    The matrix of two maps of one network is G = F1 F2^T / (H W), [C1, C2] (equation 1), after the
    larger is average-pooled to the smaller one. Both networks need the same C1 and C2. `layers` are
    two pairs [student, teacher] or more, from the input to the output; ValueError otherwise. The
    authors use a first stage; weight 50.
    """

    def __init__(self, *, layers: Sequence[Sequence[str]]) -> None:
        self.pairs = layer_pairs(layers=layers)
        if len(self.pairs) < 2:
            raise ValueError("layers: fsp compares the flow between layers: give two pairs or more")

    def __call__(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; `target` is not read.

        ValueError for features of other shapes, or if the networks' channels differ.
        """
        features = read_pairs("fsp", self.pairs, student, teacher)
        values = [_distance(*first, *second) for first, second in pairwise(features)]
        return torch.stack(values).sum()


@full_precision
def _distance(
    student: Tensor, teacher: Tensor, next_student: Tensor, next_teacher: Tensor
) -> Tensor:
    student, teacher = _flow(student, next_student), _flow(teacher, next_teacher)
    if student.shape != teacher.shape:
        found = f"{list(student.shape[1:])} for the student, {list(teacher.shape[1:])}"
        raise ValueError(f"fsp: channels {found} for the teacher: choose layers of equal width")
    return (student - teacher).square().mean()


def _flow(first: Tensor, second: Tensor) -> Tensor:
    first, second = (each.flatten(2) for each in maps_of_one_size(first, second))
    return first @ second.transpose(1, 2) / first.shape[2]
