"""Files of torch.save as plain data: torch's restricted unpickler, and inert stand-ins for objects.

Nothing that a file names is imported or called: an `argparse.Namespace`, a NumPy number or an enum
beside the tensors becomes an empty object. What torch itself blocks, such as `os`, is refused.
"""

import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch.serialization import safe_globals

MOST_OBJECTS = 100  # of different names in a file: each is one more reading


class _Object(list[Any]):
    """Takes any arguments, items and state that a pickle has for an object; keeps the items."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return id(self)  # an object may be a key, or in a set


class _Mapping:
    """Stands for an object with keys, which torch sets in its own kinds of mappings only."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def read_pickled(path: Path) -> tuple[Any, list[str]]:
    """Return the content of a file, on the CPU, and the names of the objects left out.

    Raises ValueError if the file is unreadable or refused.
    """
    inert: dict[str, Any] = {}
    try:
        _check_archive(path)
        while True:
            try:
                with (
                    warnings.catch_warnings(action="ignore"),  # torch's, on how a file was made
                    safe_globals([(kind, name) for name, kind in inert.items()]),
                ):
                    content = torch.load(path, weights_only=True, map_location="cpu")
                return content, list(inert)
            except Exception as error:
                if not _add_inert(inert, str(error)):
                    raise
    except Exception as error:  # a broken pickle raises anything
        raise ValueError(_refusal(error)) from error


def _add_inert(inert: dict[str, Any], message: str) -> bool:
    """Add a stand-in for what torch refused; return whether another attempt may help."""
    if named := re.search(r"Unsupported global: GLOBAL (\S+) was", message):
        name = named[1] if "." in named[1] else f"builtins.{named[1]}"
        kind = type(name, (_Object,), {"__module__": "inert"})
    elif named := re.search(r"Can only SETITEMS? for .*got <class 'inert\.(.+)'>", message):
        name, kind = named[1], type(named[1], (_Mapping,), {})
    else:
        return False
    fresh = inert.get(name) is None or issubclass(kind, _Mapping)
    inert[name] = kind
    return fresh and len(inert) <= MOST_OBJECTS


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
