"""Weight files as tensors by name. They may be from anywhere: nothing in them is run."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from kdx.recipe.wording import explain

LONGEST_HEADER = 2**23  # bytes: a hundred thousand tensors

_MAGIC = {b"PK\x03\x04": "a zip archive", b"\x80": "a pickle"}
_Count = Annotated[int, Field(ge=1, le=2**14)]  # of pixels or channels


class _Input(BaseModel):
    """An `InputSpec`, from a file that may be anybody's."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    channels: _Count
    size: _Count | tuple[_Count, _Count]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need one number for each of {self.channels} channels")
        return self


class _About(BaseModel):
    """What kdx writes into a .safetensors file beside the tensors."""

    input: _Input
    classes: int
    extra: dict[str, Any]


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .pth or .pt file, on the CPU.

    Raises ValueError if the file is unreadable, or holds more than tensors.
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
    """Return "input", "classes" and "extra" of a .safetensors file; None if kdx did not write it.

    Errors as `read`.
    """
    try:
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("kdx")
        if text is None:
            return None
        return _About.model_validate_json(text, strict=True).model_dump()
    except ValidationError as invalid:
        error = invalid.errors()[0]
        place = ".".join(("metadata", *map(str, error["loc"][:2])))
        raise _unreadable(path, f"{place}: {explain(error)}") from invalid
    except (SafetensorError, ValueError) as error:
        raise _unreadable(path, error) from error


def _check_header(path: Path) -> None:
    """Raise ValueError for another format, and for a header that would take long to read."""
    with path.open("rb") as file:
        start = file.read(8)
    if (length := int.from_bytes(start, "little")) > LONGEST_HEADER:
        for magic, format in _MAGIC.items():
            if start.startswith(magic):
                raise ValueError(f"refused: it is {format} under another name; nothing was run")
        raise ValueError(f"refused: a header of {length:,} bytes, at most {LONGEST_HEADER:,}")


def _check_archive(path: Path) -> None:
    """Refuse archives with code, and those that expand to more than their size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(Path(entry.filename).name == "constants.pkl" for entry in entries):
        raise ValueError("refused: it is a TorchScript archive, which holds code")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("refused: it is compressed, which torch.save never does")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("refused: its parts are larger than the whole file")


def _unreadable(path: Path, error: object) -> ValueError:
    return ValueError(f"{path}: not a readable safetensors file: {error}")


def _refusal(error: Exception) -> str:
    """Say why a file was not loaded, without torch's advice to load it unsafely."""
    if str(error).startswith("refused:"):
        return f"{error}; nothing was run"
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
    entries = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in entries):
        places = "at the top level or under 'state_dict' or 'model'"
        raise ValueError(f"{path}: no state dict found, {places}")
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return content
