"""The students that a recipe can name: `student: {use: smallnet, kernel_size: 7}`."""

from collections.abc import Callable, Mapping

from torch import nn

from kdx.students.smallnet import SmallNet, smallnet, smallnet4
from kdx.students.zoo import timm, torchvision

__all__ = ["TABLE", "SmallNet", "smallnet", "smallnet4", "timm", "torchvision"]

TABLE: Mapping[str, Callable[..., nn.Module]] = {
    "smallnet": smallnet,
    "smallnet4": smallnet4,
    "timm": timm,
    "torchvision": torchvision,
}
