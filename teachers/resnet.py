"""ResNets (He et al. 2016) as teachers, with a stem for small images or for ImageNet's."""

from typing import Literal

from torch import nn
from torchvision.models import ResNet

from teachers.zoo import torchvision

__all__ = ["resnet18", "resnet152"]

Stem = Literal["cifar", "imagenet"]


def resnet18(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "imagenet",
    pretrained: str | None = None,
) -> nn.Module:
    """Return a ResNet-18: images [B, in_channels, H, W] to logits [B, num_classes].

    `stem`: "imagenet" is torchvision's; "cifar" is a 3 x 3 convolution of stride 1 without
    max-pool, for images of about 32 pixels. `pretrained`: see `teachers.torchvision`.
    ValueError for another stem, and for published weights that do not fit the other arguments.
    """
    return _resnet("resnet18", num_classes, in_channels, stem, pretrained)


def resnet152(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: Stem = "imagenet",
    pretrained: str | None = None,
) -> nn.Module:
    """Return a ResNet-152; arguments and errors are those of `resnet18`."""
    return _resnet("resnet152", num_classes, in_channels, stem, pretrained)


def _resnet(
    name: str, num_classes: int, in_channels: int, stem: Stem, pretrained: str | None
) -> nn.Module:
    if stem not in ("cifar", "imagenet"):
        raise ValueError(f"stem: {stem!r} is not one of 'cifar', 'imagenet'")
    if pretrained and stem != "imagenet":
        raise ValueError(f"{name}: {pretrained} was trained with `stem: imagenet`, not {stem!r}")
    if pretrained:
        return torchvision(
            name=name, num_classes=num_classes, in_channels=in_channels, pretrained=pretrained
        )
    model = torchvision(name=name, num_classes=num_classes)
    assert isinstance(model, ResNet)
    if stem == "cifar":
        model.conv1 = _first_convolution(in_channels, kernel_size=3, stride=1)
        model.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    elif in_channels != 3:
        model.conv1 = _first_convolution(in_channels, kernel_size=7, stride=2)
    return model


def _first_convolution(in_channels: int, *, kernel_size: int, stride: int) -> nn.Conv2d:
    """Return a stem to 64 channels with torchvision's initialisation of ResNets."""
    conv = nn.Conv2d(
        in_channels, 64, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
