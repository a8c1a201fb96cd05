"""YOLO-LITE (Huang et al. 2018), a detector on a grid of cells of 32 x 32 pixels."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

__all__ = ["yolo_lite"]

BACKBONE = (16, 32, 64, 128, 128)
HEAD = 256


def yolo_lite(
    *,
    num_classes: int = 20,
    anchors: int | Sequence[tuple[float, float]] = 5,
    in_channels: int = 3,
) -> nn.Sequential:
    """Return YOLO-LITE: images [B, in_channels, H, W] to [B, A * (5 + C), H / 32, W / 32].

    A is the number of `anchors`, which may be given as that or as [width, height] pairs; C is
    `num_classes`. `backbone`: five blocks of a 3 x 3 convolution, BatchNorm, leaky ReLU and 2 x 2
    max-pool; `head`: such a block without the pool, and a 1 x 1 convolution, the only one with
    biases. ValueError without an anchor.
    """
    count = anchors if isinstance(anchors, int) else len(anchors)
    if count < 1:
        raise ValueError(f"anchors: {anchors!r} is empty: give at least one [width, height]")
    backbone = nn.Sequential()
    for inputs, width in pairwise((in_channels, *BACKBONE)):
        backbone.extend((*_block(inputs, width), nn.MaxPool2d(2)))
    outputs = count * (5 + num_classes)
    head = nn.Sequential(*_block(BACKBONE[-1], HEAD), nn.Conv2d(HEAD, outputs, 1))
    return nn.Sequential(OrderedDict(backbone=backbone, head=head))


def _block(inputs: int, width: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.LeakyReLU(0.1)
