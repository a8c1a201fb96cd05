"""Reads pickles of plain data, and nothing else.

A pickle can name any importable function and call it. This reader knows the few names with which
NumPy 1 and 2 write an array, and refuses every other.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_pickle"]


def read_pickle(path: Path) -> dict[str, Any]:
    """Return the dictionary of bytes, text, numbers, lists and arrays that the file holds.

    Strings of Python 2 come as text (latin-1). Raises ValueError naming the file, and what was
    refused or wrong in it.
    """
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a dictionary")
    return content


def _dtype(code: str, align: object = False, copy: object = False) -> np.dtype:
    """Make the types of plain numbers; NumPy 1 wrote the flags as 0 and 1."""
    if code not in {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)}:
        raise pickle.UnpicklingError(f"refused: an array of {code!r}")
    return np.dtype(code, align=bool(align), copy=bool(copy))


def _encode(text: str, encoding: str) -> bytes:
    """Make bytes: Python 3 writes them so in protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: the encoding {encoding!r}")
    return text.encode(encoding)


def _known_names() -> dict[tuple[str, str], Any]:
    """List what a pickled array names; NumPy itself says how it rebuilds one."""
    reconstruct: Any = np.zeros(1).__reduce__()[0]
    from_buffer: Any = np.zeros(1).__reduce_ex__(5)[0]
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _encode,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = reconstruct
        names[f"{core}.numeric", "_frombuffer"] = from_buffer
    return names


_NAMES = _known_names()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"refused: {module}.{name} is not plain data")
        return _NAMES[module, name]
