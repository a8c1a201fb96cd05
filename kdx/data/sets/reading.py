"""Many files read at once, with all their problems told together."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kdx.util.words import counted, listed

__all__ = ["attempt_each", "orientation_notes", "read_each"]

THREADS = 16

T = TypeVar("T")
R = TypeVar("R")


def attempt_each(read: Callable[[T], R], items: Sequence[T]) -> list[R | ValueError]:
    """Return what `read` returns for each item, or the ValueError it raises."""

    def attempt(item: T) -> R | ValueError:
        try:
            return read(item)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(attempt, items))


def read_each(origin: str, read: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what `read` returns for each image; ValueError lists all that it raises."""
    results = attempt_each(read, items)
    if problems := [str(result) for result in results if isinstance(result, ValueError)]:
        count = f"{len(problems):,} of {counted(len(items), 'image')}"
        raise ValueError(f"{origin}: {count} cannot be used: {listed(problems, '; ')}")
    return [result for result in results if not isinstance(result, ValueError)]


def orientation_notes(origin: str, images: Sequence[tuple[str, bool]], *, by: str) -> Iterator[str]:
    """Say which images (path, if turned) with an EXIF orientation are turned `by` what, or not."""
    for turned, verb in ((True, "turned"), (False, "not turned")):
        if paths := [path for path, each in images if each == turned]:
            count = counted(len(paths), "image")
            yield f"{origin}: {count} with an EXIF orientation {verb}, {by}: {listed(paths)}"
