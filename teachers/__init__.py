"""Teacher networks, with random weights or published ones. Usable without kdx."""

from teachers.resnet import resnet18, resnet152
from teachers.yolo import yolo
from teachers.zoo import segmentation, timm, torchvision

__all__ = ["resnet18", "resnet152", "segmentation", "timm", "torchvision", "yolo"]
