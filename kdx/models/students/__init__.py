"""The students that a recipe can name: `student: {use: smallnet, kernel_size: 7}`."""

from collections.abc import Callable, Mapping

from torch import nn

from kdx.models.average import ema
from kdx.models.students.alexnet import alexnet
from kdx.models.students.cifar_resnet import cifar_resnet, resnet8x4, resnet32x4
from kdx.models.students.smallnet import SmallNet, smallnet, smallnet4
from kdx.models.students.unet import UNet, unet
from kdx.models.students.yolo_lite import yolo_lite
from kdx.models.students.zoo import mobilenet, mobilenet_v2, shufflenet_v2, timm, torchvision

__all__ = [
    "TABLE",
    "SmallNet",
    "UNet",
    "alexnet",
    "cifar_resnet",
    "ema",
    "mobilenet",
    "mobilenet_v2",
    "resnet8x4",
    "resnet32x4",
    "shufflenet_v2",
    "smallnet",
    "smallnet4",
    "timm",
    "torchvision",
    "unet",
    "yolo_lite",
]

_NETWORKS = (
    smallnet, smallnet4, mobilenet, mobilenet_v2, shufflenet_v2, alexnet, yolo_lite, unet,
    cifar_resnet, resnet8x4, resnet32x4, timm, torchvision, ema,
)  # fmt: skip
TABLE: Mapping[str, Callable[..., nn.Module]] = {network.__name__: network for network in _NETWORKS}
