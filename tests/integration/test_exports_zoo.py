"""Every student, expanded and compressed, and timm's smallest architectures, in every runtime."""

import copy
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
STUDENTS = {
    "smallnet": 32, "alexnet": 224, "cifar_resnet": 32, "resnet8x4": 32, "unet": 64,
    "mobilenet": 64, "mobilenet_v2": 64, "shufflenet_v2": 64,
}  # fmt: skip
SMALLEST = [
    "test_byobnet", "test_convnext", "test_convnext2", "test_convnext3", "test_efficientnet",
    "test_efficientnet_evos", "test_efficientnet_gn", "test_efficientnet_ln", "test_mambaout",
    "test_nfnet", "test_resnet", "test_vit", "test_vit2", "test_vit3", "test_vit4",
    "mobilenetv3_small_050", "lcnet_035", "lcnet_050", "tinynet_e",
    "tf_mobilenetv3_small_minimal_100",
]  # fmt: skip


def differences(network, size, to, path):
    """Return by batch the largest error as a share of the largest output."""
    format = load(FORMATS[to])
    images = torch.randn(32, 3, size, size, generator=torch.Generator().manual_seed(0))
    file = path / format.FILE.format(name="student")
    with torch.no_grad(), quiet():
        format.write(network, images[:4], file, Options())
        call, found = format.open(file), {}
        for batch in (1, 7, 32):
            expected = network(images[:batch])
            error = (torch.from_numpy(call(images[:batch].numpy())) - expected).abs().max()
            found[batch] = float(error / expected.abs().max())
    return found


def skip_without(to):
    if importlib.util.find_spec({"torch-export": "torch"}.get(to, to)) is None:
        pytest.skip(f"{to} is not installed")


@pytest.mark.long
@pytest.mark.parametrize("to", RUNTIMES)
@pytest.mark.parametrize("name", STUDENTS)
def test_students_of_kdx(name, to, tmp_path):
    skip_without(to)
    torch.manual_seed(0)
    network = getattr(students, name)(num_classes=10, in_channels=3)
    expanded = expand.expand(copy.deepcopy(network), "cl")
    with torch.no_grad():
        expanded.train()(torch.randn(8, 3, *2 * [STUDENTS[name]]))  # warms up BatchNorm
    compact = expand.compress(expanded.eval()).eval()
    assert max(differences(compact, STUDENTS[name], to, tmp_path).values()) < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("to", RUNTIMES)
@pytest.mark.parametrize("name", SMALLEST)
def test_architectures_of_timm(name, to, tmp_path):
    skip_without(to)
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10)
    size = network.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        network.train()(torch.randn(4, 3, size, size))
    assert max(differences(network.eval(), size, to, tmp_path).values()) < 1e-4
