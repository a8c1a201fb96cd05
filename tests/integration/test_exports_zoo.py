"""Every student, expanded and trained, and timm's smallest networks, in every runtime."""

import importlib.util

import pytest
import timm
import torch

import expand
from kdx.exporting import FORMATS
from kdx.exporting.export import quiet
from kdx.exporting.formats import Options, load
from kdx.models import students

RUNTIMES = ("onnx", "torch-export", "openvino", "executorch")
BATCHES = (1, 7, 32)
SIZES = {"alexnet": 224, "smallnet": 32, "smallnet4": 32, "cifar_resnet": 32, "resnet8x4": 32,
         "resnet32x4": 32}  # fmt: skip
OTHERS = {"timm", "torchvision", "ema"}  # have no network of their own
SMALLEST = (
    "test_efficientnet", "test_efficientnet_gn", "test_efficientnet_ln",
    "test_efficientnet_evos", "test_nfnet", "test_mambaout", "test_byobnet", "test_convnext",
    "test_vit", "test_convnext3", "test_convnext2", "test_resnet", "lcnet_035", "test_vit2",
    "mobilenetv2_035", "starnet_s050", "test_coatnet", "mobilenetv3_small_050", "lcnet_050",
    "mobilenetv4_conv_small_035",
)  # fmt: skip
"""`smallest(20)` of timm 1.0.31, all of whose 1,371 architectures can be built."""


def smallest(count):
    """Return the `count` architectures of timm that have the fewest parameters."""
    counts = {}
    for name in timm.list_models():
        with torch.device("meta"):
            network = timm.create_model(name, num_classes=10)
        counts[name] = sum(each.numel() for each in network.parameters())
    return sorted(counts, key=counts.__getitem__)[:count]


def trained(network, size):
    """Train a network for three steps; return it in eval mode."""
    optimizer = torch.optim.SGD(network.train().parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(4, 3, size, size)).square().mean().backward()
        optimizer.step()
    return network.eval()


def build(name):
    """Return a network that was trained for a moment, and the size of its images."""
    torch.manual_seed(0)
    if name in SMALLEST:
        network = timm.create_model(name, num_classes=10, **OPTIONS.get(name, {}))
        size = network.pretrained_cfg["input_size"][-1]
        return trained(network, size), size
    network, size = students.TABLE[name](num_classes=10, in_channels=3), SIZES.get(name, 64)
    return expand.compress(trained(expand.expand(network, "cl"), size)).eval(), size


# at any size, timm exports the resizing of position embeddings: OpenVINO and ExecuTorch have none
OPTIONS = {name: {"img_size": 160, "dynamic_img_size": False} for name in ("test_vit", "test_vit2")}
FIXED = {
    (name, "executorch") for name in ("shufflenet_v2", "test_mambaout", "test_coatnet")
}  # XNNPACK's delegate fails on batches unlike the first


@pytest.mark.long
def test_the_smallest_are_found_by_counting():
    assert set(smallest(20)) == set(SMALLEST)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of timm and of torch's tracing
@pytest.mark.parametrize("to", RUNTIMES)
@pytest.mark.parametrize("name", [*sorted({*students.TABLE} - OTHERS), *SMALLEST])
def test_an_export_equals_the_network(name, to, tmp_path):
    if importlib.util.find_spec({"torch-export": "torch"}.get(to, to)) is None:
        pytest.skip(f"{to} is not installed")
    network, size = build(name)
    format, images = load(FORMATS[to]), torch.randn(32, 3, size, size)
    file = tmp_path / format.FILE.format(name="student")
    with torch.no_grad(), quiet():
        fixed = 4 if (name, to) in FIXED else None
        format.write(network, images[:4], file, Options(fixed))
        call, found = format.open(file), {}
        for batch in [fixed] if fixed else BATCHES:
            expected, given = network(images[:batch]), call(images[:batch].numpy())
            assert given.shape == expected.shape
            error = (torch.from_numpy(given) - expected).abs().max() / expected.abs().max()
            found[batch] = float(error)
    assert max(found.values()) < 1e-4, found
