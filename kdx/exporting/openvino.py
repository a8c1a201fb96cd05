"""OpenVINO: an .xml of the graph and a .bin of the weights, run on the CPU."""

import json
from pathlib import Path

import openvino
from torch import Tensor, nn

from kdx.exporting.formats import Call, Options
from kdx.exporting.tracing import trace

RUNTIME, FILE = "openvino", "{name}.xml"
FREE_SIZE, MOST = True, None


def write(network: nn.Module, images: Tensor, path: Path, options: Options) -> None:
    """See `kdx.exporting.formats.Format`. `options.about` becomes the runtime info "kdx"."""
    program = trace(network, images, batch=options.batch, free_size=options.free_size)
    model = openvino.convert_model(program)
    model.inputs[0].get_tensor().set_names({"images"})
    model.outputs[0].get_tensor().set_names({options.output})
    model.set_rt_info(json.dumps(dict(options.about)), ["kdx"])
    openvino.save_model(model, path, compress_to_fp16=False)


def open(path: Path, *, threads: int = 1) -> Call:
    """See `kdx.exporting.formats.Format`. In float32, also where the CPU has bfloat16."""
    how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    network = openvino.Core().compile_model(path, "CPU", how)
    return lambda images: network(images)[0].copy()
