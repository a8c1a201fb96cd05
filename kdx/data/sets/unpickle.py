"""Reads pickles of plain data, and nothing else.

A pickle can call any importable function. This reader knows only the few names with which NumPy 1
and 2 write an array, and has stand-ins for them, which check what NumPy would believe.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_pickle"]


def read_pickle(path: Path) -> dict[str, Any]:
    """Return the dictionary that the file holds: bytes, text, numbers, lists of these, and arrays.

    Strings of Python 2 come as text (latin-1). ValueError for a damaged file, or other content.
    """
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a dictionary")
    return {key: v.plain if isinstance(v, _Array) else v for key, v in content.items()}


class _Dtype:
    """Stands in for a type of plain numbers: NumPy's own takes flags that make them pointers."""

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        if code not in {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)}:
            raise pickle.UnpicklingError(f"refused: an array of {code!r}")
        self.plain = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.plain = self.plain.newbyteorder(state[1])


class _Array:
    """Stands in for an array, which is None until its content comes."""

    plain: np.ndarray | None = None

    def __setstate__(self, state: tuple[int, Any, _Dtype, bool, bytes | str]) -> None:
        _, shape, dtype, fortran, raw = state
        content = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote text
        self.plain = _filled(content, dtype, shape, "F" if fortran else "C")


def _filled(content: bytes, dtype: _Dtype, shape: Any, order: Any) -> np.ndarray:
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"refused: an array in the order {order!r}")
    return np.frombuffer(content, dtype.plain).reshape(shape, order=order).copy()


def _from_buffer(content: bytes, dtype: _Dtype, shape: Any, order: Any, *_: object) -> _Array:
    array = _Array()  # at once: how protocol 5 writes it
    array.plain = _filled(content, dtype, shape, order)
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Make bytes: Python 3 writes them so in protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: the encoding {encoding!r}")
    return text.encode(encoding)


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),  # its content follows
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}
"""What a pickled array names, by NumPy 1 and 2, and what stands in for it here."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"refused: {module}.{name} is not plain data")
        return _NAMES[module, name]
