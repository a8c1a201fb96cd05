"""Weights on disk: safetensors that know their input, and strict loading of any weight file.

A file's metadata holds, under "kdx", JSON of "input" (an `InputSpec`), "classes" and "extra".
"""

import json
import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialised
from torch import Tensor, nn

from kdx.models.weight_files import MAGIC, about_of, read
from kdx.models.wrappings import choose
from kdx.protocols import InputSpec
from kdx.util.files import write_whole
from kdx.util.words import counted, listed

FILE_IN_RUN = "student.safetensors"
SUFFIXES = (".safetensors", ".pth", ".pt")
_LOG = logging.getLogger("kdx")


class Misfit(ValueError):
    """Weights that do not match a network; `names` are its tensors that are absent or differ."""

    def __init__(self, message: str, names: Collection[str]) -> None:
        super().__init__(message)
        self.names = set(names)


def save(
    source: nn.Module | Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    input: InputSpec,
    classes: int,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights of `source`, a module or a state dict, to the .safetensors file `path`.

    `extra` is anything JSON can hold. The file appears complete or not at all.
    """
    write_whole(Path(path), serialise(source, input=input, classes=classes, extra=extra))


def serialise(
    source: nn.Module | Mapping[str, Tensor],
    *,
    input: InputSpec,
    classes: int,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the content of the file that `save` writes; shared tensors are written repeatedly."""
    state = source.state_dict() if isinstance(source, nn.Module) else source
    apart = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    about = {"input": asdict(input), "classes": classes, "extra": dict(extra or {})}
    return serialised(apart, metadata={"kdx": json.dumps(about)})


def load(
    module: nn.Module,
    source: str | os.PathLike[str],
    *,
    key: str | None = None,
    new: Collection[str] = (),
    network: str = "",
    note: Callable[[str], object] = _LOG.warning,
) -> InputSpec | None:
    """Load `source` into `module`, strictly, and return the input it was trained on, if known.

    `source`: a run directory (its student.safetensors), a .safetensors file, or a file of
    torch.save (.pth, .pt, .ckpt, .pth.tar, ...). What kdx wrote is taken as it is. Elsewhere the
    weights are found by the names in `module`, under any keys and prefixes (torch.compile's, DDP's,
    Lightning's), or below `key`, which is dotted. `note` gets a line on what was found and left
    out, if that is more than a plain state dict; by default the log "kdx". Tensors of `module`
    that are in `new` are not loaded. `network` is its name for errors.

    Raises FileNotFoundError for a missing file. Raises ValueError if the file is unreadable
    (objects in it are not read, and nothing is run), does not match the module's keys, shapes or
    dtypes, matches in several places, or contains NaN or Inf where the module does not; the module
    is unchanged then. It is a `Misfit` for what does not match.
    """
    path = _file(source)
    spec, found, expected = read_spec(path), read(path), module.state_dict()
    try:
        chosen, summary = choose(found, expected, key="" if spec and key is None else key, new=new)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if chosen.problems:
        whole = f"{path}: state dict does not match the network{network and f' {network}'}"
        lines = [whole, *chosen.problems, *([f"  the file: {summary}"] if summary else [])]
        raise Misfit("\n".join(lines), chosen.names)
    _check_finite(path, expected, chosen.tensors)
    if summary:
        note(f"{path}: {summary}")
    load_tensors(module, chosen.tensors)
    return spec


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors that fit a module, into all or some of its own."""
    state = module.state_dict()  # records the versions of the layout
    state.update(tensors)
    module.load_state_dict(state)


def read_spec(source: str | os.PathLike[str]) -> InputSpec | None:
    """Return the input of `read_metadata`; None if the file does not say."""
    about = read_metadata(source)
    return InputSpec(**about["input"]) if about else None


def read_metadata(source: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return "input", "classes" and "extra" as saved; None for files that `save` did not write.

    Takes what `load` takes, reads no tensor; errors as `load`.
    """
    path = _file(source)
    return about_of(path) if path.suffix == ".safetensors" else None


def _file(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if path.is_dir():
        if not (path / FILE_IN_RUN).exists():
            raise FileNotFoundError(f"{path} has no {FILE_IN_RUN}: not a finished run")
        path /= FILE_IN_RUN
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or run directory")
    if not path.is_file():
        raise ValueError(f"{path}: a pipe or a device, not a weight file")
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix not in SUFFIXES and not start.startswith(tuple(MAGIC)):
        known = "a .safetensors, .pth or .pt file, nor another one of torch.save"
        raise ValueError(f"{path}: not a run directory or {known}")
    return path


def _check_finite(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError for NaN and Inf, unless the network has them itself (in a mask)."""
    bad = []
    for name, value in found.items():
        own = expected[name]
        if own.is_floating_point() or own.is_complex():
            wrong = ~value.to(own.dtype).isfinite() & own.isfinite().to(value.device)
            if count := int(wrong.sum()):
                bad.append(f"{name} ({count:,} of {own.numel():,} values)")
    if bad:
        found_in = f"NaN or Inf in {counted(len(bad), 'tensor')}: {listed(bad)}"
        cause = "Training diverged, or the file is damaged: use other weights"
        raise ValueError(f"{path}: {found_in}. {cause}")
