"""Graphs and files of formats, without a run."""

import json

import onnx
import pytest
import torch
from torch import nn

from kdx.data.augment import to_pixels
from kdx.exporting import onnx as onnx_format
from kdx.exporting.formats import Options
from kdx.exporting.tracing import FromPixels, trace
from kdx.protocols import InputSpec


def network(classes=3):
    torch.manual_seed(0)
    pool = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
    return nn.Sequential(nn.Conv2d(3, 4, 3), *pool).eval()


def test_onnx_says_what_it_takes(tmp_path):
    """With a free batch, height and width, pixels in, and metadata."""
    spec = InputSpec(3, 8, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    plain, path = network(), tmp_path / "a.onnx"
    pixels = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    options = Options(free_size=True, about={"classes": ["a", "b", "c"], "interpolation": "none"})
    onnx_format.write(FromPixels(plain, spec).eval(), pixels, path, options)
    model = onnx.load(path)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    given, found = model.graph.input[0], model.graph.output[0]
    assert (given.name, found.name) == ("images", "logits")
    axes = [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    told = {each.key: each.value for each in model.metadata_props}
    assert (json.loads(told["classes"]), told["interpolation"]) == (["a", "b", "c"], "none")
    other = torch.randint(256, (5, 3, 11, 17), dtype=torch.uint8)
    mean, std = (torch.tensor(each)[:, None, None] for each in (spec.mean, spec.std))
    with torch.no_grad():
        expected = plain((other / 255 - mean) / std).numpy()
    assert onnx_format.open(path)(other.numpy()) == pytest.approx(expected, abs=1e-5)
    assert torch.equal(to_pixels((other / 255 - mean) / std, spec), other)


class _Shape(nn.Module):
    """Not for any batch."""

    def forward(self, images):
        return images.reshape(2, -1)


def test_what_cannot_be_traced_is_refused():
    images = torch.randn(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"cannot be traced with a free batch: .* --batch N"):
        trace(_Shape(), images)
    assert trace(_Shape(), images, batch=2).module()(images).shape == (2, 48)
