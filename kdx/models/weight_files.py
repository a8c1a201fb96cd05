"""Weight files as tensors by name. They may be from anywhere: nothing in them is run."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from kdx.models.pickled import read_pickled
from kdx.models.wrappings import Contents, contents
from kdx.recipe.wording import explain

LONGEST_HEADER = 2**23  # bytes: a hundred thousand tensors

MAGIC = {b"PK\x03\x04": "a zip archive", b"\x80": "a pickle"}
"""What files of torch.save begin with."""

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


def read(path: Path) -> Contents:
    """Return what a .safetensors file, or one of torch.save, holds, on the CPU.

    Raises ValueError if the file is unreadable or has no tensors; nothing in it is run.
    """
    if path.suffix == ".safetensors":
        try:
            _check_header(path)
            return contents(load_file(path), [])
        except (SafetensorError, ValueError) as error:
            raise _unreadable(path, error) from error
    try:
        return contents(*read_pickled(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


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
        for magic, format in MAGIC.items():
            if start.startswith(magic):
                raise ValueError(f"refused: it is {format} under another name; nothing was run")
        raise ValueError(f"refused: a header of {length:,} bytes, at most {LONGEST_HEADER:,}")


def _unreadable(path: Path, error: object) -> ValueError:
    return ValueError(f"{path}: not a readable safetensors file: {error}")
