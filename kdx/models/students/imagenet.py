"""The paper's networks for ImageNet (ExpandNets, section 3.1.2), which the libraries have.

Images [B, in_channels, H, W] to logits [B, num_classes]. Those of torchvision want three channels.
"""

from torch import nn

from kdx.models.students.zoo import timm, torchvision

__all__ = ["mobilenet", "mobilenet_v2", "shufflenet_v2"]


def mobilenet(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Return MobileNet v1 (Howard et al. 2017), timm's: 4,231,976 parameters for 1000 classes."""
    return timm(name="mobilenetv1_100", num_classes=num_classes, in_channels=in_channels)


def mobilenet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Return MobileNetV2 (Sandler et al. 2018), torchvision's: 3,504,872 parameters."""
    return torchvision(name="mobilenet_v2", num_classes=num_classes, in_channels=in_channels)


def shufflenet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Return ShuffleNetV2 0.5x (Ma et al. 2018), torchvision's: 1,366,792 parameters."""
    return torchvision(name="shufflenet_v2_x0_5", num_classes=num_classes, in_channels=in_channels)
