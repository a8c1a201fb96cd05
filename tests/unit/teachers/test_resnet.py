import pytest
import torch
from torch import nn
from torchvision import models

import teachers


def test_imagenet_stem_is_torchvision_s():
    network = teachers.resnet18(num_classes=7)
    assert network.state_dict().keys() == models.resnet18().state_dict().keys()
    assert network.conv1.weight.shape == (64, 3, 7, 7)
    assert isinstance(network.maxpool, nn.MaxPool2d)


def test_cifar_stem_keeps_the_resolution():
    network = teachers.resnet18(num_classes=7, in_channels=1, stem="cifar").eval()
    sizes = []
    network.layer1.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape)))
    assert network(torch.zeros(1, 1, 16, 16)).shape == (1, 7)
    assert sizes == [(1, 64, 16, 16)]


@pytest.mark.parametrize(("stem", "kernel"), [("cifar", 3), ("imagenet", 7)])
def test_stem_for_other_channels_starts_as_torchvision_s(stem, kernel):
    torch.manual_seed(0)
    conv = teachers.resnet18(in_channels=2, stem=stem).conv1
    assert conv.weight.shape == (64, 2, kernel, kernel)
    assert conv.weight.std().item() == pytest.approx((2 / (64 * kernel**2)) ** 0.5, rel=0.1)


def test_resnet152():
    with torch.device("meta"):
        network = teachers.resnet152(num_classes=1000)
    assert sum(p.numel() for p in network.parameters()) == 60_192_808


def test_refusals():
    with pytest.raises(ValueError, match="stem: 'small' is not one of 'cifar', 'imagenet'"):
        teachers.resnet18(stem="small")
    with pytest.raises(ValueError, match="resnet18: DEFAULT was trained with `stem: imagenet`"):
        teachers.resnet18(num_classes=1000, stem="cifar", pretrained="DEFAULT")
    with pytest.raises(ValueError, match="IMAGENET1K_V1 has 1000 classes, not 10"):
        teachers.resnet152(num_classes=10, pretrained="IMAGENET1K_V1")
