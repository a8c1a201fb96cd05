"""Many strings in one buffer."""

from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from typing import overload

import numpy as np


class Strings(Sequence[str]):
    """Strings that processes share.

    Reading an object writes its reference count: a forked worker that reads a list of 1.28 million
    paths ends with a copy of them, 140 MB. One buffer and its offsets are not copied.
    """

    def __init__(self, strings: Iterable[str | PathLike[str]]) -> None:
        encoded = [fspath(each).encode(errors="surrogatepass") for each in strings]
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        place = range(len(self))[index]  # IndexError beyond the end, which iteration needs
        text = self._text[self._ends[place] : self._ends[place + 1]]
        return text.decode(errors="surrogatepass")


def packed(strings: Sequence[str]) -> Strings:
    """Return the strings in one buffer, or themselves if they are."""
    return strings if isinstance(strings, Strings) else Strings(strings)
