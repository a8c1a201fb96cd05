"""The paper's counting rules and torch's, on layers worked by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import expand
from kdx.models.students import unet
from kdx_lab.complexity.counting import Counts, count


@pytest.mark.parametrize(
    ("layer", "image", "macs", "more"),
    [
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), (3, 4, 5), 20 * 8 * 27, 0),
        (nn.Conv2d(3, 8, 3, padding=1), (3, 4, 5), 20 * 8 * 27, 20 * 8),
        (nn.Conv2d(3, 8, 3, stride=2), (3, 7, 5), 6 * 8 * 27, 6 * 8),
        (nn.Conv2d(6, 9, (3, 1), groups=3), (6, 4, 5), 10 * 9 * 2 * 3, 10 * 9),
        (nn.Conv2d(4, 4, 3, groups=4, dilation=2, bias=False), (4, 5, 6), 2 * 4 * 9, 0),
        (nn.ConvTranspose2d(6, 4, 2, 2), (6, 3, 5), 15 * 6 * 4 * 4, 4 * 6 * 6),  # not 6 x 10
        (nn.ConvTranspose2d(6, 4, 2, 2, bias=False), (6, 3, 5), 15 * 6 * 4 * 4, 0),
        (nn.Sequential(nn.Flatten(), nn.Linear(60, 7)), (3, 4, 5), 60 * 7, 0),
        (nn.Sequential(nn.Flatten(), nn.Linear(60, 7, bias=False)), (3, 4, 5), 60 * 7, 0),
        (nn.Linear(5, 7), (3, 4, 5), 12 * 35, 0),
        (nn.BatchNorm2d(3), (3, 4, 5), 0, 120),
        (nn.BatchNorm2d(3, affine=False), (3, 4, 5), 0, 60),
        (nn.ReLU(inplace=True), (3, 4, 5), 0, 60),
        (nn.ReLU6(), (3, 4, 5), 0, 60),
        (nn.LeakyReLU(), (3, 4, 5), 0, 60),
        (nn.MaxPool2d(2), (3, 4, 5), 0, 60),
        (nn.AdaptiveAvgPool2d(1), (3, 4, 5), 0, 60),
        (nn.GELU(), (3, 4, 5), 0, 0),
    ],
)
def test_layers_by_hand(layer, image, macs, more):
    parameters = sum(p.numel() for p in layer.parameters())
    expected = Counts(parameters, macs + more, macs)
    assert count(layer, (1, *image)) == expected
    assert count(layer, (3, *image)) == expected


class Calls(nn.Module):
    """A convolution, and what follows it called as functions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        return F.max_pool2d(F.relu(self.conv(images)), 2)


def test_functions_are_not_counted():
    counts = count(Calls(), (1, 3, 6, 6))
    assert (counts.macs, counts.paper_flops) == (16 * 8 * 27, 16 * 8 * 28)
    modules = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    assert count(modules, (1, 3, 6, 6), functional=[nn.ReLU, nn.MaxPool2d]) == counts
    assert count(modules, (1, 3, 6, 6)).paper_flops == counts.paper_flops + 2 * 16 * 8


def test_a_chain_counts_its_factors_and_a_product_is_shared_by_the_batch():
    chain = expand.expand(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1)), "cl", stem="expand")
    expand.set_mode(chain, "unfolded")
    of_chain = 36 * 4 * 16 + 16 * (16 * 32 * 9 + 32 * 8)  # the first on padded images
    assert count(chain, (2, 4, 4, 4)).macs == of_chain
    expand.set_mode(chain, "folded")
    compact = 16 * 8 * 36
    once, shared = (count(chain, (images, 4, 4, 4)).macs - compact for images in (1, 8))
    assert once > 10_000
    assert shared == round(once / 8)


def test_networks_are_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count(network, (2, 3, 8, 8))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network[1]._forward_hooks


def test_images_that_a_network_cannot_take():
    with pytest.raises(ValueError, match=r"fails on images of 1 x 3 x 40 x 40: .*16 must divide"):
        count(unet(), (1, 3, 40, 40))
    with pytest.raises(ValueError, match=r"fails on images of 1 x 4 x 8 x 8: .*channel"):
        count(nn.Conv2d(3, 4, 3), (1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"fails on images of 1 x 3 x 8 x 8: .*AssertionError"):
        count(Asserting(), (1, 3, 8, 8))


class Asserting(nn.Module):
    """A network that refuses images as timm's do."""

    def forward(self, images):
        assert images.shape[-1] == 224
