"""int8: post-training quantisation in the runtimes' own tools, one function a format.

Weights are symmetric, a scale an output channel; activations affine, a scale a tensor, with ranges
that calibration images [B, C, H, W] give, or training for int8 (`quantize.QAT`).
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.exporting.formats import Options, Write
from kdx.exporting.tracing import FromPixels

FORMATS = ("onnx", "executorch")
MATRICES = ["Gemm", "MatMul"]
LAYERS = ("Conv", *MATRICES)
TRANSPOSED = "ConvTranspose"  # which training for int8 leaves in float
MOVES = ("Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators whose outputs have the scale of their input."""


def check_format(to: str) -> None:
    """Raise ValueError for a format without int8."""
    if to not in FORMATS:
        raise ValueError(f"int8: not for the format {to}. Formats: {', '.join(FORMATS)}")


def quantising(to: str, calibration: Sequence[Tensor]) -> Write:
    """Return what writes the int8 artefact of a format of `FORMATS`."""
    return partial({"onnx": _onnx, "executorch": _executorch}[to], calibration)


def _sized(batches: Sequence[Tensor], size: int | None) -> Sequence[Tensor]:
    """Return the images in batches of what a graph takes; the last one fills the last up."""
    if size is None:
        return batches
    images = torch.cat(list(batches))
    return torch.cat([images, images[-1:].repeat(-len(images) % size, 1, 1, 1)]).split(size)


def _onnx(
    calibration: Sequence[Tensor], network: nn.Module, images: Tensor, path: Path, options: Options
) -> None:
    """Write an ONNX model with QuantizeLinear and DequantizeLinear in it.

    Layers that were trained for int8 keep the ranges of their inputs, `options.about["int8"]`, and
    those beside them, which were trained in float, stay in float; other tensors get the extremes of
    the calibration images. Fully-connected layers give floats: rounded logits would tie.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from kdx.exporting import onnx as format

    ranges = options.about.get("int8", {}).get("input_ranges", {})
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        format.write(network, images, plain, options)
        model = onnx.load(plain)
        paths = _paths(model, network) if ranges else {}
        overrides = _overrides(model, ranges, paths)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            path,
            _Images(  # pyright: ignore[reportArgumentType]
                model.graph.input[0].name, _sized(calibration, options.batch)
            ),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=_in_float(model, ranges, paths),
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={
                "WeightSymmetric": True,
                "OpTypesToExcludeOutputQuantization": MATRICES,
                "TensorQuantOverrides": overrides,
            },
        )
    made = onnx.load(path)  # ONNX Runtime leaves the metadata out
    onnx.helper.set_model_props(made, {each.key: each.value for each in model.metadata_props})
    onnx.save(made, path)


def _overrides(
    model: Any, ranges: Mapping[str, Sequence[float]], paths: Mapping[str, str]
) -> dict[str, list[dict]]:
    """Return ONNX Runtime's overrides: the ranges by the tensors that the layers read.

    What only moves numbers has one scale with its input: where that
    is rounded, ONNX Runtime looks for the scale there.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    readers = Counter(name for node in model.graph.node for name in node.input)
    found = {}
    for node in model.graph.node:
        if (path := paths.get(node.name, "")) in ranges:
            low, high = (np.float32(end) for end in ranges[path])
            name = node.input[0]
            found[name] = [{"rmin": low, "rmax": high}]
            while name in made_by and made_by[name].op_type in MOVES:
                name = made_by[name].input[0]
                if readers[name] > 1:
                    break
                found[name] = [{"rmin": low, "rmax": high}]
    return found


def _in_float(
    model: Any, ranges: Mapping[str, Sequence[float]], paths: Mapping[str, str]
) -> list[str]:
    """Return the nodes that training for int8, of other layers, left in float.

    Also products of two activations, as of attention, which it does not round.
    """
    constants = {each.name for each in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if ranges and node.op_type in (*LAYERS, TRANSPOSED)
        and (paths[node.name] not in ranges if node.name in paths
             else node.op_type == TRANSPOSED or node.input[1] not in constants)
    ]  # fmt: skip


def _paths(model: Any, network: nn.Module) -> dict[str, str]:
    """Return the paths of the layers that nodes are, by the nodes' names.

    A layer is found by its weight: by the name, before which "network." stands where the graph
    takes pixels, or by the values, since those of layers on tokens are transposed.
    """
    from onnx import numpy_helper

    inside = "network." if isinstance(network, FromPixels) else ""
    linear = {path: each for path, each in network.named_modules() if isinstance(each, nn.Linear)}
    by_values = {each.weight.detach().T.numpy().tobytes(): path for path, each in linear.items()}
    constants = {each.name: each for each in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type not in LAYERS or node.input[1] not in constants:
            continue
        name = node.input[1]
        path = name.removesuffix(".weight") if name.endswith(".weight") else None
        if path is None:
            path = by_values.get(numpy_helper.to_array(constants[name]).tobytes())
        if path is not None:
            found[node.name] = path.removeprefix(inside)
    return found


class _Images:
    """Calibration images as ONNX Runtime reads them."""

    def __init__(self, name: str, batches: Sequence[Tensor]) -> None:
        self.feeds = iter([{name: batch.numpy()} for batch in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the input's name; None at the end."""
        return next(self.feeds, None)


def _executorch(
    calibration: Sequence[Tensor], network: nn.Module, images: Tensor, path: Path, options: Options
) -> None:
    """Write the network, quantised by PT2E for XNNPACK.

    All ranges are those of the calibration images.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from kdx.exporting import executorch as format
    from kdx.exporting.tracing import trace

    config = get_symmetric_quantization_config(is_per_channel=True)
    graph = trace(network, images, batch=options.batch, most=format.MOST).module()
    prepared = prepare_pt2e(graph, XNNPACKQuantizer().set_global(config))
    with torch.no_grad():
        for batch in _sized(calibration, options.batch):
            prepared(batch)
    made = convert_pt2e(prepared)
    made.eval = lambda: made  # it is, and torch's refuses
    format.write(made, images, path, options)
