"""The ranges of weights, by channel."""

import torch
from torch import nn

import expand
from quantize import WeightRange, weight_ranges


def test_ranges_of_channels_and_the_bits_that_one_scale_would_lose():
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([-8.0, 2.0, 0.5]).view(3, 1, 1, 1))
        network[2].weight.zero_()
    conv, linear = weight_ranges(network)
    assert conv == WeightRange("0", 8.0, 2.0, 0.5)
    assert conv.bits_lost == 2
    assert (linear.path, linear.bits_lost) == ("2", float("inf"))


def test_those_of_an_expanded_network_are_its_compact_ones():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.MultiheadAttention(2, 1))
    expanded = expand.expand(network, "cl")
    (found,), (expected,) = weight_ranges(expanded), weight_ranges(expand.compress(expanded))
    assert abs(found.largest - expected.largest) < 1e-6
    assert abs(found.median - expected.median) < 1e-6
