"""What a format is: a module that writes an artefact, and opens it in its own runtime."""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

Call = Callable[[np.ndarray], np.ndarray]
"""Takes images [B, C, H, W], float32, or uint8 if that is the graph's input; returns outputs."""

Write = Callable[[nn.Module, Tensor, Path, "Options"], None]
"""See `Format.write`."""


@dataclass(frozen=True)
class Options:
    """How an artefact is written.

    `batch` is fixed, or free if None; `free_size`: height and width are free. `output` names the
    outputs. `about` is what the artefact says of itself, where its format has room for that: texts
    and what JSON can hold.
    """

    batch: int | None = None
    free_size: bool = False
    output: str = "logits"
    about: Mapping[str, Any] = field(default_factory=dict)


class Format(Protocol):
    """A module. `RUNTIME` is the package that runs it.

    `FREE_SIZE`: it can have a free height and width. `MOST`: the largest free batch, if there is a
    largest. `FILE` is the file's name: "{name}.onnx".
    """

    RUNTIME: str
    FILE: str
    FREE_SIZE: bool
    MOST: int | None

    @staticmethod
    def write(network: nn.Module, images: Tensor, path: Path, options: Options) -> None:
        """Write `network`, in eval mode on the CPU, traced on images [B, C, H, W], to `path`.

        Files that belong to it are written beside it. ValueError if it cannot be.
        """
        ...

    @staticmethod
    def open(path: Path, *, threads: int = 1) -> Call:
        """Open what `write` wrote."""
        ...


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings and logs of exporters for a while; their errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def load(module: str) -> Format:
    """Import a format's module; ValueError that names the extra, if a package is missing."""
    try:
        with quiet():
            return importlib.import_module(module)  # pyright: ignore[reportReturnType]
    except ModuleNotFoundError as error:
        name = module.rpartition(".")[2]
        if error.name is None or error.name.startswith("kdx"):
            raise
        raise ValueError(
            f"{name}: {error.name.split('.')[0]} is not installed: {INSTALL[name]}"
        ) from error


EXTRAS = ("onnx", "openvino", "executorch", "litert")
INSTALL = {name: f"pip install 'kdx[{name}]'" for name in EXTRAS}
INSTALL["litert"] += " (brings jax and pydantic below 2.12: better into an environment of its own)"


def by_torch(network: nn.Module) -> Call:
    """Return a call of a network that PyTorch runs."""

    @torch.no_grad()
    def call(images: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(images)).numpy()

    return call


def runtime(format: Format) -> str:
    """Return the name and version of a format's runtime: "onnxruntime 1.32.0"."""
    return f"{format.RUNTIME} {version(format.RUNTIME)}"
