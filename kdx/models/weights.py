"""Weights on disk: safetensors that know their input, and strict loading of any weight file.

A file's metadata holds, under "kdx", JSON of "input" (an `InputSpec`), "classes" and "extra".
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialised
from torch import Tensor, nn

from kdx.models.weight_files import about_of, read
from kdx.protocols import InputSpec
from kdx.util.files import write_whole
from kdx.util.words import counted, listed

FILE_IN_RUN = "student.safetensors"
KINDS = {
    "float": {"float16", "bfloat16", "float32", "float64"},
    "int": {"uint8", "int8", "int16", "int32", "int64"},
}
"""Dtypes that are converted into one another as they are loaded."""


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


def load(module: nn.Module, source: str | os.PathLike[str]) -> InputSpec | None:
    """Load `source` into `module`, strictly, and return the input it was trained on, if known.

    `source`: a run directory (its student.safetensors), a .safetensors file, or a .pth / .pt file
    of tensors, plain or under "state_dict" or "model", with or without DDP's "module." prefixes.

    Raises FileNotFoundError for a missing file. Raises ValueError if the file is unreadable, holds
    more than tensors (nothing in it is run), does not match the module's keys, shapes or dtypes,
    or contains NaN or Inf where the module does not; the module is unchanged then.
    """
    path = _file(source)
    spec, found, expected = read_spec(path), read(path), module.state_dict()
    _check_fit(path, expected, found)
    _check_finite(path, expected, found)
    expected.update(found)  # keeps the layout versions that state_dict() records
    module.load_state_dict(expected)
    return spec


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
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"{path}: not a run directory or a .safetensors, .pth or .pt file")
    return path


def _check_fit(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError with all that differs; old files may lack BatchNorm's counters."""
    both = [(name, found[name], own) for name, own in expected.items() if name in found]
    missing = [name for name in expected if name not in found]
    problems = {
        "missing keys": [name for name in missing if not name.endswith("num_batches_tracked")],
        "unexpected keys": [name for name in found if name not in expected],
        "shape mismatch": [
            f"{name} {tuple(new.shape)}, not {tuple(own.shape)}"
            for name, new, own in both
            if new.shape != own.shape
        ],
        "dtype mismatch": [
            f"{name} {_dtype(new)}, not {_dtype(own)}"
            for name, new, own in both
            if _kind(new) != _kind(own)
        ],
    }
    lines = [f"\n  {what} ({len(all)}): {listed(all)}" for what, all in problems.items() if all]
    if lines:
        raise ValueError(f"{path}: state dict does not match the network{''.join(lines)}")


def _dtype(tensor: Tensor) -> str:
    """Return the dtype, after "meta" or the layout if the tensor has no plain storage."""
    odd = ["meta"] * tensor.is_meta + [f"{tensor.layout}"] * (tensor.layout != torch.strided)
    return " ".join((*odd, f"{tensor.dtype}")).replace("torch.", "")


def _kind(tensor: Tensor) -> str:
    dtype = _dtype(tensor)
    return next((kind for kind, dtypes in KINDS.items() if dtype in dtypes), dtype)


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
