"""Files of weights, as tensors by name. They may be from anywhere: nothing in them is run."""

import json
import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from kdx.protocols import InputSpec

__all__ = ["about_of", "read", "spec_of"]

LONGEST_HEADER = 2**23  # bytes: a hundred thousand tensors
LARGEST_INPUT = 2**14  # pixels and channels

_MAGIC = {b"PK\x03\x04": "a zip archive", b"\x80": "a pickle"}


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .pth or .pt file, on the CPU.

    ValueError for a file that is unreadable, or that holds more than tensors.
    """
    if path.suffix == ".safetensors":
        try:
            _check_header(path)
            return load_file(path)
        except (SafetensorError, ValueError) as error:
            raise _unreadable(path, error) from error
    try:
        _check_archive(path)
        with warnings.catch_warnings(action="ignore"):  # torch's, on how a file was made
            content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a broken pickle raises anything
        raise ValueError(f"{path}: {_refusal(error)}") from error
    return _state_dict(path, content)


def about_of(path: Path) -> dict[str, Any] | None:
    """Return what kdx wrote into a .safetensors file beside the tensors; None where it did not.

    Errors as `read`.
    """
    try:
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        about = json.loads(metadata["kdx"]) if "kdx" in metadata else None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if about is not None:
        _check_about(path, about)
    return about


def spec_of(path: Path, about: Mapping[str, Any]) -> InputSpec:
    """Return the input that `about_of` a file describes; ValueError where there is none such."""
    try:
        given = about["input"]
        size = given["size"] if isinstance(given["size"], int) else tuple(given["size"])
        tuples = {"mean": tuple(given["mean"]), "std": tuple(given["std"])}
        spec = InputSpec(**given | tuples | {"size": size})
        _check_spec(spec)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its metadata describes no input: {error!r}") from error
    return spec


def _check_header(path: Path) -> None:
    """Raise ValueError for another format, and for a header that would take long to read."""
    with path.open("rb") as file:
        start = file.read(8)
    length = int.from_bytes(start, "little")
    if length > LONGEST_HEADER:
        for magic, format in _MAGIC.items():
            if start.startswith(magic):
                raise ValueError(f"refused: it is {format} under another name; nothing was run")
        raise ValueError(f"refused: a header of {length:,} bytes, at most {LONGEST_HEADER:,}")


def _check_archive(path: Path) -> None:
    """Refuse archives with code, and those that would take more memory than they have bytes."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(Path(entry.filename).name == "constants.pkl" for entry in entries):
        raise _RefusedError("it is a TorchScript archive, which holds code")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _RefusedError("it is compressed, which torch does not do")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise _RefusedError("its parts are larger than the whole file")


class _RefusedError(Exception):
    """A file that is not even opened, and why."""


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: not a readable safetensors file: {error}")


def _refusal(error: Exception) -> str:
    """Say why a file was not loaded, without torch's advice to load it unsafely."""
    if isinstance(error, _RefusedError):
        return f"refused: {error}; nothing was run"
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return f"refused: it holds {named[1]}, and only tensors are loaded; nothing was run"
    if inner := re.search(r"WeightsUnpickler error:\s*(.*)", str(error)):
        return f"not a readable checkpoint: only tensors are loaded, nothing was run ({inner[1]})"
    reason = str(error).partition("\n")[0]
    return f"not a readable checkpoint: {type(error).__name__}: {reason}"


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """Unwrap `content` to names and tensors."""
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise ValueError(f"{path}: holds no state dict, plain or under 'state_dict' or 'model'")
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return content


def _check_about(path: Path, about: Any) -> None:
    known = isinstance(about, dict) and {"input", "classes", "extra"} <= about.keys()
    if not known or type(about["classes"]) is not int or not isinstance(about["extra"], dict):
        raise ValueError(f"{path}: its metadata describes no input, classes and extra of kdx")


def _check_spec(spec: InputSpec) -> None:
    if len(spec.hw) != 2:
        raise ValueError(f"size: {list(spec.hw)} is not height and width")
    for value in spec.shape:
        if type(value) is not int or not 1 <= value <= LARGEST_INPUT:
            raise ValueError(f"{value!r} is not a count from 1 to {LARGEST_INPUT:,}")
    numbers = (*spec.mean, *spec.std)
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise ValueError("mean and std are not all numbers")
    if len(spec.mean) != spec.channels or len(spec.std) != spec.channels or min(spec.std) <= 0:
        raise ValueError(f"mean and std are not one for each of {spec.channels} channels")
