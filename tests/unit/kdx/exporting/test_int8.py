"""int8 artefacts in their runtimes: what is quantised, and with which ranges."""

import logging
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import kdx
from kdx.exporting import int8
from kdx.exporting import onnx as format
from kdx.exporting.formats import Options
from quantize import QAT, fake_weight

pytestmark = pytest.mark.filterwarnings("ignore")
RANGES = {"0": [-4.2, 4.4], "4": [0.0, 5.0]}  # nothing is clipped


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5)
    )
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(16, 3, 8, 8))
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return [torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(4)]


def written(network, images, folder, about, batch=None):
    """Write the int8 ONNX file; return its model and its path."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = folder / "int8.onnx"
            options = Options(batch, about=about)
            int8.quantising("onnx", images)(network, images[0][:4], path, options)
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(path), path


@pytest.fixture(scope="module")
def trained(network, images, tmp_path_factory):
    about = {"classes": ["a", "b"], "int8": {"input_ranges": RANGES}}
    return written(network, images, tmp_path_factory.mktemp("int8"), about)


def values(model):
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_onnx_answers_as_the_network_with_fake_quantisation(network, images, trained):
    qat = QAT()
    student = qat.apply(network)
    for path, ends in RANGES.items():
        student.get_submodule(path).input_range.copy_(torch.tensor(ends))
    with torch.no_grad():
        simulated, exact = student.eval()(images[0]).numpy(), network(images[0]).numpy()
    found = format.open(trained[1])(images[0].numpy())
    off = np.abs(found - simulated)  # the bias is int32 there: a sum may round to the other side
    step = (RANGES["4"][1] / 255) * network[4].weight.abs().max().item()
    assert np.median(off) < 1e-5
    assert off.max() < 3 * step
    assert off.mean() < 0.05 * np.abs(exact - simulated).mean()
    assert 0 < np.abs(found - exact).max() < 0.2 * np.abs(exact).max()


def test_layers_that_were_trained_in_float_stay_in_float(images, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 2, 3),
        nn.Flatten(), nn.Linear(72, 5),
    ).eval()  # fmt: skip
    about = {"classes": ["a"], "int8": {"input_ranges": {"2": [-3.0, 3.0]}}}
    model, _ = written(network, images, tmp_path, about)
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    kinds = ("Conv", "ConvTranspose", "Gemm")
    found = [
        (node.op_type, made_by.get(node.input[1]) == "DequantizeLinear")
        for node in model.graph.node
        if node.op_type in kinds
    ]
    assert found == [("Conv", False), ("Conv", True), ("ConvTranspose", False), ("Gemm", False)]


class Tokens(nn.Module):
    """A convolution, and layers on its pixels [B, N, C]."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.first, self.second, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 5)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.second(self.first(tokens).relu()).mean(1))


def test_layers_on_tokens_keep_their_ranges_or_stay_in_float(images, tmp_path):
    torch.manual_seed(0)
    ranges = {"patches": [-3.0, 3.0], "second": [0.0, 7.0], "head": [-1.0, 1.0]}
    about = {"classes": ["a"], "int8": {"input_ranges": ranges}}
    model, _ = written(Tokens().eval(), images, tmp_path, about)
    made_by = {name: node for node in model.graph.node for name in node.output}
    layers = [node for node in model.graph.node if node.op_type == "MatMul"]
    quantised = [made_by[node.input[1]].op_type == "DequantizeLinear"
                 if node.input[1] in made_by else False for node in layers]  # fmt: skip
    assert quantised == [False, True]
    scale = values(model)[made_by[layers[1].input[0]].input[1]]
    assert scale == pytest.approx(7 / 255, rel=1e-6)


@pytest.mark.parametrize("batch", [1, 24])
def test_a_fixed_batch_is_calibrated_on_the_same_images(network, images, trained, tmp_path, batch):
    about = {"classes": ["a", "b"], "int8": {"input_ranges": RANGES}}
    _, path = written(network, images, tmp_path, about, batch=batch)
    given = torch.cat(images)[:batch].numpy()
    assert format.open(path)(given) == pytest.approx(format.open(trained[1])(given), abs=1e-6)


def test_onnx_weights_are_int8_a_scale_a_channel_and_fold_the_batchnorm(network, trained):
    found = values(trained[0])
    conv, norm = network[0], network[1]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded = (conv.weight * scale.view(-1, 1, 1, 1)).detach()
    name = next(n for n, v in found.items() if v.dtype == np.int8 and v.shape == (8, 3, 3, 3))
    scales = found[name.replace("_quantized", "_scale")]
    assert scales.shape == (8,)
    made = found[name].astype(np.float32) * scales.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(made, fake_weight(folded).numpy(), atol=1e-2 * scales.max())


def test_onnx_keeps_the_ranges_of_training_and_the_metadata(trained, network, images, tmp_path):
    model, _ = trained
    found = values(model)
    scales = [v.item() for n, v in found.items() if n.endswith("_scale") and v.size == 1]
    for low, high in RANGES.values():
        assert min(abs(scale - (high - low) / 255) for scale in scales) < 1e-6
    texts = {each.key: each.value for each in model.metadata_props}
    assert texts["classes"] == '["a", "b"]'
    model, _ = written(network, images, tmp_path, {})
    extremes = torch.cat(images).amin().item(), torch.cat(images).amax().item()
    scales = [v.item() for n, v in values(model).items() if n.endswith("_scale") and v.size == 1]
    assert min(abs(scale - (extremes[1] - extremes[0]) / 255) for scale in scales) < 1e-5


@pytest.mark.long
def test_executorch_answers_nearly_as_the_network(network, images, tmp_path):
    from kdx.exporting import executorch

    int8.quantising("executorch", images)(network, images[0], tmp_path / "int8.pte", Options())
    found = executorch.open(tmp_path / "int8.pte")(images[0].numpy())
    exact = network(images[0]).detach().numpy()
    assert 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


class Pooled(nn.Module):
    """A layer that reads what is moved, of a tensor that ONNX Runtime does not round: the mean."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        return self.head(self.conv(images).mean((2, 3), keepdim=True).flatten(1))


def test_onnx_keeps_a_range_of_training_behind_a_reshape(images, tmp_path):
    torch.manual_seed(0)
    about = {"int8": {"input_ranges": {"conv": [-4.0, 4.0], "head": [-7.0, 9.0]}}}
    model, _ = written(Pooled().eval(), images, tmp_path, about)
    made = {node.output[0]: node for node in model.graph.node}
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    scale = values(model)[made[gemm.input[0]].input[1]]
    assert scale == pytest.approx(16 / 255)


@pytest.mark.parametrize("to", ["torch-export", "timm", "openvino"])
def test_a_format_without_int8_is_refused(to):
    with pytest.raises(ValueError, match=rf"int8: not for the format {to}. Formats: onnx, execut"):
        kdx.export("nowhere", to, int8=True)  # before anything is opened


class Wrapped(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images)


def test_a_student_that_calls_its_layers_network_keeps_its_ranges(network, images, tmp_path):
    ranges = {f"network.{path}": ends for path, ends in RANGES.items()}
    about = {"classes": ["a", "b"], "int8": {"input_ranges": ranges}}
    model, _ = written(Wrapped(network).eval(), images, tmp_path, about)
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) >= 2
