"""ResNets for images of about 32 pixels (He et al. 2016, section 4.2), also in the wider form."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

__all__ = ["cifar_resnet", "resnet8x4", "resnet32x4"]

WIDE = (32, 64, 128, 256)


def cifar_resnet(
    *,
    depth: int = 20,
    widths: Sequence[int] = (16, 16, 32, 64),
    num_classes: int = 10,
    in_channels: int = 3,
) -> nn.Sequential:
    """Return a ResNet: images [B, in_channels, H, W] to logits [B, num_classes].

    A 3 x 3 stem of `widths[0]` channels, three stages of (depth - 2) / 6 basic blocks at full, half
    and quarter size, average pool, one linear layer. A block that changes the size or the channels
    has a 1 x 1 convolution as its shortcut. Modules and state-dict keys are torchvision's, and
    those of Tian et al.'s RepDistiller (2020): conv1, bn1, relu, layer1 to layer3, avgpool, fc.
    ValueError unless `depth` is 6 n + 2 and there are four widths.
    """
    from torchvision.models.resnet import BasicBlock

    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        raise ValueError(f"depth: {depth} is not 6 n + 2, such as 8, 20, 32, 56")
    if len(widths) != 4 or min(widths) < 1:
        raise ValueError(f"widths: {list(widths)} should be four, of the stem and three stages")
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False))
    network.add_module("bn1", nn.BatchNorm2d(widths[0]))
    network.add_module("relu", nn.ReLU())
    for number, (inside, out) in enumerate(pairwise(widths), start=1):
        stride = 1 if number == 1 else 2
        first = BasicBlock(inside, out, stride, _shortcut(inside, out, stride))
        others = [BasicBlock(out, out) for _ in range(blocks - 1)]
        network.add_module(f"layer{number}", nn.Sequential(first, *others))
    network.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(widths[-1], num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def resnet8x4(*, num_classes: int = 10, in_channels: int = 3) -> nn.Sequential:
    """Return the student of RepDistiller's pair: 1,233,540 parameters for 100 classes."""
    return cifar_resnet(depth=8, widths=WIDE, num_classes=num_classes, in_channels=in_channels)


def resnet32x4(*, num_classes: int = 10, in_channels: int = 3) -> nn.Sequential:
    """Return the teacher of RepDistiller's pair: 7,433,860 parameters for 100 classes."""
    return cifar_resnet(depth=32, widths=WIDE, num_classes=num_classes, in_channels=in_channels)


def _shortcut(inside: int, out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inside == out:
        return None
    return nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))
