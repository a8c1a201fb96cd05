"""ExecuTorch (.pte): layers that XNNPACK has run there, others in its portable kernels."""

from pathlib import Path

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
from executorch.runtime import Runtime
from torch import Tensor, nn

from kdx.exporting.formats import Call, Options
from kdx.exporting.tracing import trace

RUNTIME, FILE = "executorch", "{name}.pte"
FREE_SIZE, MOST = False, 32  # memory is planned for the largest batch


def write(network: nn.Module, images: Tensor, path: Path, options: Options) -> None:
    """See `kdx.exporting.formats.Format`. The file has no room for `options.about`."""
    program = trace(network, images, batch=options.batch, most=MOST)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)


def open(path: Path, *, threads: int = 1) -> Call:
    """See `kdx.exporting.formats.Format`."""
    _unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None
    return lambda images: method.execute([torch.from_numpy(images)])[0].numpy().copy()
