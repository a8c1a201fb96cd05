"""A training step, counted: by hand, and beside torch's profiler."""

from functools import partial

import pytest
import torch
from torch import nn

import expand
from benchmarks.memory import peak_memory
from kdx.models.students import smallnet
from kdx_lab.complexity.training import backward, step_cost


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_cost_as_much_as_the_layer_each(groups, transposed):
    """The images need none: so twice the first layer, three times the second."""
    second = nn.ConvTranspose2d if transposed else nn.Conv2d
    first = nn.Conv2d(4, 8, 3, groups=groups, bias=False)
    network = nn.Sequential(first, second(8, 4, 3, groups=groups))
    positions = 16 if transposed else 4  # of 8 x 8 images, 4 x 4 after the first
    once = 16 * first.weight.numel(), positions * network[1].weight.numel()
    assert step_cost(network, (2, 4, 6, 6)).macs == 2 * (2 * once[0] + 3 * once[1])


def test_linear_layers_cost_as_much():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 7))
    assert step_cost(network, (2, 3, 2, 2)).macs == 2 * (2 * 60 + 3 * 35)


def test_peak_memory_by_hand():
    """Images [2, 4], weight [3, 4], outputs and their gradient [2, 3], the weight's gradient."""
    network = nn.Linear(4, 3, bias=False)
    assert step_cost(network, (2, 4)).peak == 4 * (8 + 12 + 6 + 6 + 12)


def test_activations_are_freed_on_the_way_back():
    """Each sigmoid keeps its output: forward they add up, backward two gradients live at a time."""
    network = nn.Sequential(nn.Linear(8, 8, bias=False), *(nn.Sigmoid() for _ in range(5)))
    wide = 4 * 100 * 8
    # images, five outputs (the first layer's own is freed), the gradient given, and two more
    assert step_cost(network, (100, 8)).peak == 4 * 64 + wide * (1 + 5 + 1 + 2)


@pytest.mark.parametrize("mode", [None, "folded"])
def test_peak_memory_is_the_profilers(mode):
    network = smallnet(kernel_size=7)
    if mode:
        network = expand.expand(network, preset="cl_fc", mode=mode)
    images = torch.rand(16, 3, 32, 32)
    measured = peak_memory(lambda: partial(backward, network.train(), images), torch.device("cpu"))
    there = [images, *network.parameters(), *network.buffers()]  # before the profiler looks
    expected = measured + sum(tensor.nbytes for tensor in there)
    assert step_cost(network, images.shape).peak == pytest.approx(expected, rel=1e-3)


def test_a_batch_that_cannot_be_trained_on():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match=r"images of 1 x 3 x 4 x 4: .*more than 1 value"):
        step_cost(network, (1, 3, 4, 4))
