"""Weights on disk: safetensors that know their input, and strict loading of what others saved.

A file's metadata holds, under "kdx", JSON of "input" (an `InputSpec`), "classes" and "extra".
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from kdx.files import write_whole
from kdx.protocols import InputSpec

__all__ = ["load", "read_metadata", "read_spec", "save", "serialise"]

FILE_IN_RUN = "student.safetensors"
SHOWN = 10  # names in an error


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
    than tensors (nothing in it is run), or whose names or shapes are not the module's; the module
    is untouched then.
    """
    path = _file(source)
    spec = read_spec(path)
    found = _read(path)
    expected = module.state_dict()
    _check_fit(path, expected, found)
    expected.update(found)  # keeps the layout versions that state_dict() records
    module.load_state_dict(expected)
    return spec


def read_spec(source: str | os.PathLike[str]) -> InputSpec | None:
    """Return the input that a file's network was trained on; None where the file does not say.

    Takes what `load` takes, reads no tensor; errors as `load`.
    """
    about = read_metadata(source)
    if about is None:
        return None
    try:
        spec = about["input"]
        return InputSpec(**spec | {"mean": tuple(spec["mean"]), "std": tuple(spec["std"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{source}: its metadata describes no input: {error!r}") from error


def read_metadata(source: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return "input", "classes" and "extra" as saved; None for files that `save` did not write.

    Takes what `load` takes, reads no tensor; errors as `load`.
    """
    path = _file(source)
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return json.loads(metadata["kdx"]) if "kdx" in metadata else None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error


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
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"{path}: want a run directory or a .safetensors, .pth or .pt file")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a broken pickle raises anything
        raise ValueError(f"{path}: {_refusal(error)}") from error
    return _state_dict(path, content)


def _refusal(error: Exception) -> str:
    """Say why torch.load gave up, without its advice to load the file unsafely."""
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return f"refused: it holds {named[1]}, and only tensors are loaded; nothing was run"
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


def _check_fit(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError with all that differs; BatchNorm counters, absent in old files, may lack."""
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in found if k not in expected]
    shapes = [
        f"{k} {tuple(found[k].shape)}, not {tuple(expected[k].shape)}"
        for k in expected
        if k in found and found[k].shape != expected[k].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    lines = [f"{len(v)} {k}: {_some(v)}" for k, v in problems.items() if v]
    if lines:
        raise ValueError(f"{path} does not fit the network\n  " + "\n  ".join(lines))


def _some(names: list[str]) -> str:
    more = ["..."] if len(names) > SHOWN else []
    return ", ".join(names[:SHOWN] + more)
