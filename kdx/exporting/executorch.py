"""ExecuTorch (.pte): layers that XNNPACK has run there, others in its portable kernels."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    with _silent():
        _unsafe_reset_threadpool(threads)
        method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None
    return lambda images: method.execute([torch.from_numpy(images)])[0].numpy().copy()


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what its libraries write to the standard error while they open a program."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
