import pytest
import torch

from kdx.models.students import cifar_resnet, resnet8x4, resnet32x4
from tests.unit.kdx.models.students.test_paper_networks import parameters


@pytest.mark.parametrize(
    ("build", "arguments", "count"),
    [
        (resnet8x4, {"num_classes": 100}, 1_233_540),
        (resnet32x4, {"num_classes": 100}, 7_433_860),
        (cifar_resnet, {"depth": 20, "num_classes": 100}, 278_324),
        (cifar_resnet, {"depth": 56, "num_classes": 100}, 861_620),
    ],
)
def test_parameters_of_the_published_networks(build, arguments, count):
    assert parameters(build, **arguments) == count


def test_stages_halve_the_size():
    network, shapes = resnet8x4(num_classes=7, in_channels=1).eval(), {}
    for name, module in network.named_children():
        module.register_forward_hook(
            lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    network(torch.zeros(2, 1, 32, 32))
    assert shapes == {
        **dict.fromkeys(("conv1", "bn1", "relu"), (2, 32, 32, 32)),
        "layer1": (2, 64, 32, 32),
        "layer2": (2, 128, 16, 16),
        "layer3": (2, 256, 8, 8),
        "avgpool": (2, 256, 1, 1),
        "flatten": (2, 256),
        "fc": (2, 7),
    }


def test_keys_are_those_of_public_checkpoints():
    keys = set(resnet8x4().state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv2.weight", "fc.bias"} <= keys
    assert {"layer1.0.downsample.0.weight", "layer3.0.downsample.1.bias"} <= keys
    assert not any(key.startswith("layer1.1") for key in keys)
    assert not any("layer1.0.downsample" in key for key in cifar_resnet(depth=8).state_dict())


@pytest.mark.parametrize("depth", [2, 1, 18, 33])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=rf"^depth: {depth} is not 6 n \+ 2"):
        cifar_resnet(depth=depth)


@pytest.mark.parametrize("widths", [(16, 32, 64), (16, 16, 32, 0)])
def test_other_widths_are_refused(widths):
    with pytest.raises(ValueError, match=r"^widths: .* should be four, of the stem and three"):
        cifar_resnet(widths=widths)
