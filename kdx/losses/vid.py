"""Variational information distillation (Ahn et al. 2019). B: batch, C: channels, H, W: sizes."""

from math import expm1, log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.losses.align import maps_of_one_size
from kdx.losses.pairs import PairLoss

__all__ = ["VID"]

SMALLEST = 1e-5  # variance
STARTS_AT = 5.0


class VID(PairLoss):
    """The teacher's feature t under a Gaussian that the student predicts: -log q(t | s).

    The mean over batch, channels and positions of ((t - mu(s))^2 / sigma_c^2 + log sigma_c^2) / 2
    (equation 5, without its constant). mu is three 1 x 1 convolutions, with BatchNorm and ReLU
    between them, of the teacher's width; sigma_c^2 = softplus(a_c) + 1e-5 is learned for each
    channel of the teacher and starts at 5. Maps of different sizes are average-pooled to the
    smaller one first. BatchNorm needs two values or more a channel.
    """

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from features of any layout; see `align.as_map`."""
        student, teacher = maps_of_one_size(student, teacher)
        widths = student.shape[1], teacher.shape[1]
        mean, variance = self.connector(index, widths, student, _Gaussian)(student)
        return ((teacher - mean).square() / variance + variance.log()).mean() / 2


class _Gaussian(nn.Module):
    """Predicts a mean [B, C, H, W] and a variance [C, 1, 1]."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inside, out):
            layers += [nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        self.mean = nn.Sequential(*layers, nn.Conv2d(out, out, 1))
        self.a = nn.Parameter(torch.full((out, 1, 1), log(expm1(STARTS_AT - SMALLEST))))

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(feature), F.softplus(self.a) + SMALLEST
