"""What all transforms of convolutions owe: exact on any geometry; and what they refuse."""

from functools import partial

import pytest
import torch
from torch import nn

import expand
from tests.contracts import check_geometries, check_transform
from tests.unit.expand.networks import SmallNet

KINDS = {  # of 25 random convolutions, and of 400, so many at least can be rewritten
    "OREPA": (20, 350), "DOConv": (20, 350),
    "RepVGG": (8, 150), "ACNet": (8, 150), "DBB": (8, 150), "MobileOne": (8, 150),
}  # fmt: skip
each = pytest.mark.parametrize("name", KINDS)


def geometries(name: str, seeds: range) -> int:
    kind = getattr(expand, name)
    preserving = kind if name == "DOConv" else partial(kind, init="preserve")
    return check_geometries(kind, seeds, preserving)


@each
def test_random_geometries(name):
    assert geometries(name, range(25)) > KINDS[name][0]


@pytest.mark.long
@each
def test_many_random_geometries(name):
    assert geometries(name, range(1000, 1400)) > KINDS[name][1]


@pytest.mark.parametrize(
    ("name", "kernel"), [*((name, 3) for name in KINDS), ("OREPA", 7), ("DOConv", 7)]
)
def test_it_keeps_the_contract(name, kernel):
    check_transform(getattr(expand, name), lambda: SmallNet(kernel), (4, 3, 32, 32), phases=[])


@each
def test_what_cannot_be_rewritten_is_refused(name):
    kind, network = getattr(expand, name), SmallNet(3)
    with pytest.raises(ValueError, match="'nowhere' matches no layer"):
        kind(select="nowhere").apply(network)
    with pytest.raises(
        ValueError, match=r"(?s)no layer of Linear is rewritten:.*not a convolution"
    ):
        kind().apply(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=f"{name} has no phase 'linear', nor any other"):
        kind().enter(network, "linear")
    with pytest.raises(ValueError, match=r"(?s)no layer of SmallNet is rew.*already expanded"):
        kind(select="features.*").apply(expand.expand(network, "cl"))
    with pytest.raises(ValueError, match=r"(?s)already expanded"):
        kind().apply(expand.RepVGG().apply(network))


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match="copies: 0 is not a number from 1 to 16"):
        expand.MobileOne(copies=0)
    with pytest.raises(ValueError, match="init: 'scaled' is not one of default, preserve"):
        expand.RepVGG(init="scaled")
    with pytest.raises(ValueError, match="init: 'zeros' is not one of default, scaled, preserve"):
        expand.OREPA(init="zeros")


def test_scaling_needs_values():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert expand.OREPA().apply(network)[0].weight.is_meta
    with pytest.raises(ValueError, match="0: init='scaled' needs the layer's values"):
        expand.OREPA(init="scaled").apply(network)
