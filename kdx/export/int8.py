"""int8: post-training quantisation in the runtimes' own tools, one function a format.

Weights are symmetric, a scale an output channel; activations affine, a scale a tensor, with ranges
that calibration images [B, C, H, W] give, or training for int8 (`quantize.QAT`).
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.export.formats import Options

__all__ = ["executorch", "onnx"]

MATRICES = ["Gemm", "MatMul"]
LAYERS = ("Conv", *MATRICES)
MOVES = ("Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators whose outputs have the scale of their input."""


def onnx(path: Path, output: Path, calibration: Sequence[Tensor], options: Options) -> None:
    """Write the float ONNX model at `path` to `output`, with QuantizeLinear and its inverse in it.

    Layers that were trained for int8 keep the ranges of their inputs, `options.about["int8"]`;
    other tensors get the extremes of the calibration images. Fully-connected layers give floats:
    rounded logits would tie.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(path)
    ranges = options.about.get("int8", {}).get("input_ranges", {})
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            output,
            _Images(model.graph.input[0].name, calibration),  # pyright: ignore[reportArgumentType]
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={
                "WeightSymmetric": True,
                "OpTypesToExcludeOutputQuantization": MATRICES,
                "TensorQuantOverrides": _overrides(model, ranges),
            },
        )
    made = onnx.load(output)  # ONNX Runtime leaves the metadata out
    onnx.helper.set_model_props(made, {each.key: each.value for each in model.metadata_props})
    onnx.save(made, output)


def _overrides(model: Any, ranges: Mapping[str, Sequence[float]]) -> dict[str, list[dict]]:
    """Return ONNX Runtime's overrides: the ranges by the tensors that the layers read.

    A layer is found by its weight, which has the name of the network's, or "network." before it
    where the graph takes pixels. What only moves numbers
    has one scale with its input, and that is where ONNX Runtime looks for it.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        weight = node.input[1].removeprefix("network.") if node.op_type in LAYERS else ""
        path = weight.removesuffix(".weight")
        if path in ranges:
            low, high = (np.float32(end) for end in ranges[path])
            name = node.input[0]
            while name in made_by and made_by[name].op_type in MOVES:
                name = made_by[name].input[0]
            found[name] = [{"rmin": low, "rmax": high}]
    return found


class _Images:
    """Calibration images as ONNX Runtime reads them."""

    def __init__(self, name: str, batches: Sequence[Tensor]) -> None:
        self.feeds = iter([{name: batch.numpy()} for batch in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the input's name; None at the end."""
        return next(self.feeds, None)


def executorch(
    network: nn.Module, path: Path, calibration: Sequence[Tensor], options: Options
) -> None:
    """Write the float `network`, quantised by PT2E for XNNPACK, to `path`.

    All ranges are those of the calibration images.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from kdx.export import executorch as format
    from kdx.export.tracing import trace

    config = get_symmetric_quantization_config(is_per_channel=True)
    graph = trace(network, calibration[0], batch=options.batch, most=format.MOST).module()
    prepared = prepare_pt2e(graph, XNNPACKQuantizer().set_global(config))
    with torch.no_grad():
        for batch in calibration:
            prepared(batch)
    made = convert_pt2e(prepared)
    made.eval = lambda: made  # it is, and torch's refuses
    format.write(made, calibration[0], path, options)
