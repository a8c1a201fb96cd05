import pytest
import torch

from kdx.models.students import SmallNet, smallnet, smallnet4


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("kernel_size", "count"), [(3, 15_050), (7, 66_186)])
def test_parameters_of_the_paper(kernel_size, count):
    assert parameters(smallnet(kernel_size=kernel_size)) == count
    assert parameters(SmallNet(kernel_size=kernel_size)) == count


@pytest.mark.parametrize(
    ("kernel_size", "count"), [(3, 41_866), (5, 85_258), (7, 150_346), (9, 237_130)]
)
def test_parameters_of_appendix_a3(kernel_size, count):
    assert parameters(smallnet4(kernel_size=kernel_size)) == count


def test_shapes_and_order_of_the_operations():
    shapes = {}
    network = smallnet(num_classes=4, in_channels=1, image_size=28)
    for name, module in network.named_children():
        module.register_forward_hook(
            lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    network(torch.zeros(2, 1, 28, 28))
    assert shapes == {
        "conv1": (2, 8, 26, 26),
        "bn1": (2, 8, 26, 26),
        "relu1": (2, 8, 26, 26),
        "pool1": (2, 8, 13, 13),
        "conv2": (2, 16, 11, 11),
        "bn2": (2, 16, 11, 11),
        "relu2": (2, 16, 11, 11),
        "pool2": (2, 16, 5, 5),
        "conv3": (2, 32, 3, 3),
        "bn3": (2, 32, 3, 3),
        "relu3": (2, 32, 3, 3),
        "pool3": (2, 32, 1, 1),
        "flatten": (2, 32),
        "fc1": (2, 64),
        "relu_fc1": (2, 64),
        "fc2": (2, 4),
    }
    assert list(shapes) == [name for name, _ in network.named_children()]


@pytest.mark.parametrize(
    ("factory", "kernel_size", "smallest"),
    [(smallnet, 3, 22), (smallnet, 7, 8), (smallnet4, 5, 16)],
)
def test_smallest_image(factory, kernel_size, smallest):
    network = factory(kernel_size=kernel_size, image_size=smallest).eval()
    assert network(torch.zeros(1, 3, smallest, smallest)).shape == (1, 10)
    with pytest.raises(ValueError, match=f"image_size: {smallest - 1} is too small .* {smallest}"):
        factory(kernel_size=kernel_size, image_size=smallest - 1)


def test_unknown_kernel():
    with pytest.raises(ValueError, match=r"kernel_size: 5 is not one of \(3, 7\)"):
        smallnet(kernel_size=5)
    with pytest.raises(ValueError, match=r"kernel_size: 4 is not one of \(3, 5, 7, 9\)"):
        smallnet4(kernel_size=4)
