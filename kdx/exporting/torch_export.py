"""torch.export's own files (.pt2), run by PyTorch."""

import json
from pathlib import Path

import torch

from kdx.exporting.formats import Call, Options, by_torch
from kdx.exporting.tracing import trace

RUNTIME, FILE = "torch", "{name}.pt2"
FREE_SIZE, MOST = True, None
ABOUT = "about.json"


def write(network: torch.nn.Module, images: torch.Tensor, path: Path, options: Options) -> None:
    """See `kdx.exporting.formats.Format`. `options.about` becomes the extra file about.json."""
    program = trace(network, images, batch=options.batch, free_size=options.free_size)
    torch.export.save(program, path, extra_files={ABOUT: json.dumps(dict(options.about))})


def open(path: Path, *, threads: int = 1) -> Call:
    """See `kdx.exporting.formats.Format`. Torch's threads are those of the process."""
    return by_torch(torch.export.load(path).module())
