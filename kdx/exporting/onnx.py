"""ONNX, by torch's own exporter, run by ONNX Runtime."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import onnxscript  # noqa: F401 - torch's exporter needs it
import torch
from torch import Tensor, nn

from kdx.exporting.formats import Call, Options
from kdx.exporting.tracing import shape, trace

RUNTIME, FILE = "onnxruntime", "{name}.onnx"
FREE_SIZE, MOST = True, None
OPSET = 18
INPUT = "images"
LARGEST = 2**31 - 2**20  # bytes of weights in one file of protobuf


def write(network: nn.Module, images: Tensor, path: Path, options: Options) -> None:
    """See `kdx.exporting.formats.Format`. `options.about` becomes metadata_props."""
    program = trace(network, images, batch=options.batch, free_size=options.free_size)
    made = torch.onnx.export(
        program, (), dynamo=True, opset_version=OPSET, verbose=False,
        input_names=[INPUT], output_names=[options.output])  # fmt: skip
    assert made is not None
    size = sum(each.nbytes for each in network.state_dict().values())
    made.save(path, external_data=size > LARGEST)
    model = onnx.load(path, load_external_data=False)
    _name_axes(model, shape(images, batch=options.batch, free_size=options.free_size))
    texts = options.about.items()
    onnx.helper.set_model_props(
        model, {name: v if isinstance(v, str) else json.dumps(v) for name, v in texts}
    )
    onnx.save(model, path)


def _name_axes(model: onnx.ModelProto, names: Sequence[int | str]) -> None:
    """Call the free axes of input and output "batch", "height" and "width"; torch numbers them."""
    graph = model.graph
    axes = graph.input[0].type.tensor_type.shape.dim
    new = {axis.dim_param: str(n) for axis, n in zip(axes, names, strict=True) if axis.dim_param}
    if not new:
        return
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, new))})\b")
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = pattern.sub(lambda found: new[found[1]], axis.dim_param)


def open(path: Path, *, threads: int = 1) -> Call:
    """See `kdx.exporting.formats.Format`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]  # pyright: ignore
