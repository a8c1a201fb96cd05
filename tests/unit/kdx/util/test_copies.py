"""Copies of networks that keep a tensor of their last forward pass, and of those that cannot be."""

import threading
import warnings
from copy import deepcopy

import pytest
import torch
from torch import nn

from kdx.util.copies import copied

with warnings.catch_warnings(action="ignore"):
    OLD_STYLE = {
        "weight_norm": nn.utils.weight_norm(nn.Linear(4, 3)),
        "spectral_norm": nn.utils.spectral_norm(nn.Linear(4, 3)),
    }


class Keeps(nn.Linear):
    def forward(self, input):
        output = super().forward(input)
        self.last, self.all = output, {"outputs": [output, output * 2]}
        return output


@pytest.mark.parametrize("layer", [*OLD_STYLE.values(), Keeps(4, 3)], ids=[*OLD_STYLE, "keeps"])
def test_tensors_inside_a_graph_are_copied_by_value(layer):
    network, images = nn.Sequential(layer, nn.ReLU()), torch.randn(5, 4)
    network(images)
    with pytest.raises(RuntimeError, match="created explicitly by the user"):
        deepcopy(network)
    copy = copied(network)
    assert copy.state_dict().keys() == network.state_dict().keys()
    network.eval(), copy.eval()
    assert torch.equal(copy(images), network(images))
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert network(images).abs().max() > 0  # the original's parameters are its own


def test_shared_tensors_stay_shared():
    layer = Keeps(4, 3)
    layer(torch.ones(1, 4))
    copy = copied(layer)
    assert copy.last is copy.all["outputs"][0]
    assert not copy.last.requires_grad
    assert layer.last.requires_grad
    assert torch.equal(copy.all["outputs"][1], layer.all["outputs"][1])


def test_what_cannot_be_copied_is_named():
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    network[1][1].lock = threading.Lock()
    with pytest.raises(ValueError, match=r"^Sequential cannot be copied: 1\.1 \(ReLU\): .*lock"):
        copied(network)


def test_parametrisations_are_removed_from_a_copy_alone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())
    x = torch.randn(1, 3, 5, 5)
    expected = network(x)
    copy = copied(network)
    nn.utils.parametrize.remove_parametrizations(copy[0], "weight")
    assert type(copy[0]) is nn.Conv2d
    torch.testing.assert_close(copy(x), expected)
    assert torch.equal(network(x), expected)
