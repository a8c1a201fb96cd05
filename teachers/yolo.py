"""Detectors on a grid, in the fashion of YOLOv2 (Redmon & Farhadi 2016), on timm's backbones."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from teachers.zoo import timm

__all__ = ["yolo"]

STRIDE = 32
WIDTH = 512


def yolo(
    *,
    backbone: str = "resnet18",
    num_classes: int = 20,
    anchors: int | Sequence[tuple[float, float]] = 5,
    in_channels: int = 3,
    pretrained: bool | str = False,
) -> nn.Module:
    """Return a detector: images [B, in_channels, H, W] to [B, A * (5 + C), H / 32, W / 32].

    A is the number of `anchors`, which may be given as that or as [width, height] pairs; C is
    `num_classes`. `backbone` is a network of timm whose last features are maps of stride 32;
    `pretrained`, as of `teachers.timm`, starts it from published weights. The head, a 3 x 3
    convolution to 512 channels with BatchNorm and ReLU, then a 1 x 1 convolution, starts at random.
    All of it takes images as it is trained on them, whatever the published weights took.

    ValueError for what `teachers.timm` refuses, a backbone without features of that stride, and
    without an anchor.
    """
    count = anchors if isinstance(anchors, int) else len(anchors)
    if count < 1:
        raise ValueError(f"anchors: {anchors!r} has no anchor: give at least one [width, height]")
    features: Any = timm(
        name=backbone,
        in_channels=in_channels,
        pretrained=pretrained,
        features_only=True,
        out_indices=(-1,),
    )
    (stride,), (channels,) = features.feature_info.reduction(), features.feature_info.channels()
    if stride != STRIDE:
        raise ValueError(
            f"backbone: the last features of {backbone!r} have a stride of {stride}, not {STRIDE}"
        )
    return Yolo(features, channels, count * (5 + num_classes))


class Yolo(nn.Module):
    """A backbone, and a head on the last of its features."""

    def __init__(self, backbone: nn.Module, channels: int, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, outputs, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the output on the grid, raw."""
        return self.head(self.backbone(images)[-1])
