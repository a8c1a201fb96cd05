"""A handful of timm's architectures, of every kind of layer; `make zoo` tries many."""

import pytest

import expand
from tests.zoo import check, check_transform

HANDFUL = [
    ("resnet18", "auto", True),
    ("mobilenetv3_small_050", "cl", False),  # depthwise, squeeze-excite
    ("tf_mobilenetv3_small_minimal_100", "cl", False),  # Conv2dSame
    ("nf_regnet_b0", "cl", False),  # ScaledStdConv2d
    ("resnetv2_18", "cl", False),  # StdConv2d
    ("mixnet_s", "auto", False),  # 3x3 to 11x11 in one layer
    ("convnext_atto", "ck", True),  # 7x7 depthwise
    ("levit_128s", "auto", True),
    ("deit_tiny_patch16_224", "auto", True),
]


@pytest.mark.parametrize(("name", "conv", "linear"), HANDFUL)
def test_the_very_same_network_comes_back(name, conv, linear):
    result = check(name, conv, linear)
    assert result.expanded > 10
    assert result.float32 < 1e-4
    assert result.float64 < 1e-9


CONVOLUTIONAL = sorted({name for name, conv, _ in HANDFUL} - {"deit_tiny_patch16_224"})
MORE = ["regnetx_002", "densenet121", "efficientnet_b0", "repvgg_a0", "hrnet_w18_small"]


BRANCHED = [name for name in (*CONVOLUTIONAL, *MORE) if name != "nf_regnet_b0"]


def check_same_network(transform, name):
    result = check_transform(name, transform)
    assert result.expanded >= 1
    assert result.float32 < 1e-4
    assert result.float64 < 1e-9


@pytest.mark.long
@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *MORE])
def test_orepa_gives_the_very_same_network_back(name):
    check_same_network(expand.OREPA(init="scaled"), name)


@pytest.mark.long
@pytest.mark.parametrize("name", BRANCHED)
def test_dbb_gives_the_very_same_network_back(name):
    check_same_network(expand.DBB(), name)


@pytest.mark.long
def test_dbb_refuses_a_network_whose_convolutions_have_forwards_of_their_own():
    with pytest.raises(ValueError, match="ScaledStdConv2d has a forward of its own"):
        check_transform("nf_regnet_b0", expand.DBB())
