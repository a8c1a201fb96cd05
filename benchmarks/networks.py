"""The networks of Table 13 that kdx does not have: a U-Net, YOLO-LITE, and the libraries' nets.

H, W: image size; C: classes.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["UNet", "mobilenet", "mobilenet_v2", "shufflenet_v2", "yolo_lite"]


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of widths 32 to 512, with biases and without BatchNorm.

    Images [B, 3, H, W], H and W multiples of 16, to logits [B, C, H, W]. Contracting: five blocks
    of two 3 x 3 convolutions, 2 x 2 max-pool between them. Expanding: transposed 2 x 2
    convolutions, the block of the same size beside them, two 3 x 3 convolutions.
    """

    def __init__(self, *, num_classes: int = 34) -> None:
        super().__init__()
        widths = (32, 64, 128, 256, 512)
        inputs = (3, *widths[:-1])
        self.contract = nn.ModuleList(map(_double, inputs, widths))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))  # (512, 256), ...
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, width, 2, 2) for wide, width in pairs)
        self.expand = nn.ModuleList(_double(wide, width) for wide, width in pairs)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of every pixel."""
        kept = [self.contract[0](images)]
        for block in self.contract[1:]:
            kept.append(block(self.pool(kept[-1])))
        value = kept.pop()
        for up, block in zip(self.up, self.expand, strict=True):
            value = block(torch.cat([kept.pop(), up(value)], dim=1))
        return self.head(value)


def yolo_lite(*, outputs: int = 125) -> nn.Sequential:
    """YOLO-LITE (Huang et al. 2018): images [B, 3, H, W] to [B, outputs, H / 32, W / 32].

    `outputs` is 5 anchors x (5 + 20 classes of PASCAL VOC).
    """
    widths = (3, 16, 32, 64, 128, 128)
    layers: list[nn.Module] = []
    for inputs, width in pairwise(widths):
        layers += [*_leaky(inputs, width), nn.MaxPool2d(2)]
    layers += [*_leaky(widths[-1], 256), nn.Conv2d(256, outputs, 1)]
    return nn.Sequential(*layers)


def mobilenet() -> nn.Module:
    """timm's MobileNet v1 for 1000 classes."""
    import timm

    return timm.create_model("mobilenetv1_100")


def mobilenet_v2() -> nn.Module:
    """torchvision's MobileNetV2 for 1000 classes."""
    from torchvision import models

    return models.mobilenet_v2()


def shufflenet_v2() -> nn.Module:
    """torchvision's ShuffleNetV2 0.5x for 1000 classes."""
    from torchvision import models

    return models.shufflenet_v2_x0_5()


def _double(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def _leaky(inputs: int, width: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.LeakyReLU(0.1)]
