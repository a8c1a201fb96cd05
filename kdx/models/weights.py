"""Weights on disk: safetensors that know their input, and strict loading of what others saved.

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

from kdx.models.weight_files import about_of, read, spec_of
from kdx.protocols import InputSpec
from kdx.util.files import write_whole
from kdx.util.words import counted

__all__ = ["load", "read_metadata", "read_spec", "save", "serialise"]

FILE_IN_RUN = "student.safetensors"
SHOWN = 10  # names in an error
KINDS = {
    "real": (torch.float16, torch.bfloat16, torch.float32, torch.float64),
    "whole": (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}


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
    content = serialise(source, input=input, classes=classes, extra=extra)
    write_whole(Path(path), content)


def serialise(
    source: nn.Module | Mapping[str, Tensor],
    *,
    input: InputSpec,
    classes: int,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the content of the file that `save` writes.

    Names that share one tensor are each written in full.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else source
    apart = {name: _own_copy(tensor) for name, tensor in state.items()}
    about = {"input": asdict(input), "classes": classes, "extra": dict(extra or {})}
    return serialised(apart, metadata={"kdx": json.dumps(about)})


def load(module: nn.Module, source: str | os.PathLike[str]) -> InputSpec | None:
    """Load `source` into `module`, strictly, and return the input it was trained on, if known.

    `source`: a run directory (its student.safetensors), a .safetensors file, or a .pth / .pt file
    of tensors, plain or under "state_dict" or "model", with or without DDP's "module." prefixes.

    FileNotFoundError for a missing file. ValueError for one that is unreadable, that holds more
    than tensors (nothing in it is run), whose names, shapes or kinds of numbers are not the
    module's, or whose numbers are not finite where the module's are; the module is untouched then.
    """
    path = _file(source)
    spec = read_spec(path)
    found = read(path)
    expected = module.state_dict()
    _check_fit(path, expected, found)
    _check_finite(path, expected, found)
    expected.update(found)  # keeps the layout versions that state_dict() records
    module.load_state_dict(expected)
    return spec


def read_spec(source: str | os.PathLike[str]) -> InputSpec | None:
    """Return the input that a file's network was trained on; None where the file does not say.

    Takes what `load` takes, reads no tensor; errors as `load`.
    """
    path = _file(source)
    about = read_metadata(path)
    return None if about is None else spec_of(path, about)


def read_metadata(source: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return "input", "classes" and "extra" as saved; None for files that `save` did not write.

    Takes what `load` takes, reads no tensor; errors as `load`.
    """
    path = _file(source)
    return about_of(path) if path.suffix == ".safetensors" else None


def _own_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _file(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if path.is_dir():
        if not (path / FILE_IN_RUN).exists():
            raise FileNotFoundError(f"{path} holds no {FILE_IN_RUN}: no finished run")
        path /= FILE_IN_RUN
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or run directory")
    if not path.is_file():
        raise ValueError(f"{path}: a pipe or a device, not a file of weights")
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"{path}: want a run directory or a .safetensors, .pth or .pt file")
    return path


def _check_fit(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError with all that differs; BatchNorm counters, absent in old files, may lack."""
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in found if k not in expected]
    shapes = [
        f"{k} {tuple(found[k].shape)}, not {tuple(expected[k].shape)}"
        for k in expected
        if k in found and found[k].shape != expected[k].shape
    ]
    kinds = [
        f"{k} {_kind(found[k])}, not {_kind(expected[k])}"
        for k in expected
        if k in found and _kind(found[k]) != _kind(expected[k])
    ]
    problems = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": shapes,
        "of another kind": kinds,
    }
    lines = [f"{len(v)} {k}: {_some(v)}" for k, v in problems.items() if v]
    if lines:
        raise ValueError(f"{path} does not fit the network\n  " + "\n  ".join(lines))


def _kind(tensor: Tensor) -> str:
    """Say what the numbers are; those of one kind are converted to each other as they load."""
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        return f"{'meta' if tensor.is_meta else tensor.layout} {tensor.dtype}"
    return next(
        (kind for kind, dtypes in KINDS.items() if tensor.dtype in dtypes), f"{tensor.dtype}"
    )


def _check_finite(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError for inf and NaN, but where the network has them itself (a mask, say)."""
    bad = []
    for name, value in found.items():
        there = expected[name]
        if there.is_floating_point() or there.is_complex():
            converted = value.to(there.dtype)
            wrong = int((~converted.isfinite() & there.isfinite().to(value.device)).sum())
            bad += [f"{name} ({wrong:,} of {there.numel():,} numbers)"] * bool(wrong)
    if bad:
        raise ValueError(
            f"{path}: inf or NaN in {counted(len(bad), 'tensor')}: {_some(bad)}. Their training "
            "diverged, or the file is damaged: use other weights"
        )


def _some(names: list[str]) -> str:
    more = ["..."] if len(names) > SHOWN else []
    return ", ".join(names[:SHOWN] + more)
