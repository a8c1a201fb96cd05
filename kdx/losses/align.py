"""Features of one shape. B: batch, C, D: channels, T: tokens, H, W: sizes."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdx.losses.shared import as_map


def maps_of_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as maps, average-pooled to the smaller height and the smaller width."""
    student, teacher = as_map(student, like=teacher), as_map(teacher, like=student)
    height, width = map(min, student.shape[2:], teacher.shape[2:])
    size = height, width
    return _pooled(student, size), _pooled(teacher, size)


def pointwise(inside: int, out: int) -> nn.Conv2d:
    """Return a 1 x 1 convolution without bias."""
    return nn.Conv2d(inside, out, 1, bias=False)


def _pooled(feature: Tensor, size: tuple[int, int]) -> Tensor:
    return feature if feature.shape[2:] == size else F.adaptive_avg_pool2d(feature, size)
