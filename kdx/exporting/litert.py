"""LiteRT (.tflite), by litert-torch, run by its own interpreter."""

from pathlib import Path

import litert_torch  # pyright: ignore[reportMissingImports]
from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]
from litert_torch._config import config  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from kdx.exporting.formats import Call, Options

RUNTIME, FILE = "ai-edge-litert", "{name}.tflite"
FREE_SIZE, MOST = False, None


def write(network: nn.Module, images: Tensor, path: Path, options: Options) -> None:
    """See `kdx.exporting.formats.Format`. ValueError unless the batch is fixed."""
    if options.batch is None:
        raise ValueError("litert: the batch must be fixed: pass --batch N (batch=N)")
    config.show_progress = False
    example = images[:1].repeat(options.batch, 1, 1, 1)
    litert_torch.convert(network, (example,)).export(str(path))


def open(path: Path, *, threads: int = 1) -> Call:
    """See `kdx.exporting.formats.Format`."""
    runner = Interpreter(str(path), num_threads=threads).get_signature_runner()
    name = next(iter(runner.get_input_details()))
    return lambda images: next(iter(runner(**{name: images}).values()))
