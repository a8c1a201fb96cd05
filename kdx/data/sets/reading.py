"""Many files read at once, with all problems in one error."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kdx.data.decode import MASKS, SEGMENTS, read_annotated, read_header, suffixes
from kdx.data.masks import other_size
from kdx.util.threads import in_threads
from kdx.util.words import counted, listed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet

T = TypeVar("T")
R = TypeVar("R")


def attempt_each(read: Callable[[T], R], items: Sequence[T]) -> list[R | ValueError]:
    """Return what `read` returns for each item, or the ValueError it raises."""

    def attempt(item: T) -> R | ValueError:
        try:
            return read(item)
        except ValueError as error:
            return error

    return list(in_threads(attempt, items))


def read_each(
    origin: str, read: Callable[[T], R], items: Sequence[T], *, noun: str = "image"
) -> list[R]:
    """Return what `read` returns for each item, a `noun`; ValueError lists all that it raises."""
    results = attempt_each(read, items)
    if problems := [str(result) for result in results if isinstance(result, ValueError)]:
        count = f"{len(problems):,} of {counted(len(items), noun)}"
        raise ValueError(f"{origin}: {count} cannot be used: {listed(problems, '; ')}")
    return [result for result in results if not isinstance(result, ValueError)]


def every_of(read: Callable[..., R], *columns: Iterable[Any]) -> list[R]:
    """Return what `read` returns for each row of the columns; ValueError has all that it raises."""
    results = attempt_each(lambda row: read(*row), list(zip(*columns, strict=True)))
    if problems := dict.fromkeys(str(each) for each in results if isinstance(each, ValueError)):
        raise ValueError("; ".join(problems))
    return [result for result in results if not isinstance(result, ValueError)]


def beside(folder: str | Path, name: str) -> str:
    """Return the path of a file or a folder in `folder`.

    Backslashes separate folders, as on Windows, if it does not exist as written, but does so.
    """
    path, other = Path(folder, name), Path(folder, name.replace("\\", "/"))
    return str(other if path != other and not path.exists() and other.exists() else path)


def mask_notes(
    origin: str, files: Iterable[tuple[str, str]], *, ending: str = "", segments: bool = False
) -> Iterator[str]:
    """Say which of the images, with their masks' `files`, have an EXIF orientation; once each.

    `segments`: of masks of segments. ValueError lists images and masks that do not fit, as far as
    headers tell, and images whose name does not have the `ending`.
    """

    def turned(pair: tuple[str, str]) -> bool | None:
        """Return whether an image is turned to fit its mask; None without an orientation."""
        path, mask = pair
        if not path.endswith(ending):
            raise ValueError(f"{path}: its name does not end in {ending}")
        found = read_header(mask, modes=SEGMENTS if segments else MASKS).size
        header, size = read_annotated(path, found)
        if found != size:
            raise ValueError(f"{mask}: {other_size(found, size)}")
        return None if header.orientation == 1 else size != header.size

    every = list(dict.fromkeys(files))
    found = zip(every, read_each(origin, turned, every), strict=True)
    oriented = [(image, each) for (image, _), each in found if each is not None]
    yield from orientation_notes(origin, oriented, by="as the masks' sizes say")


def check_numbers(origin: str, *, size: int, skip_bad: int = 0) -> None:
    """Raise ValueError for a size below 1, or a `skip_bad` below 0."""
    for name, value, least in (("size", size, 1), ("skip_bad", skip_bad, 0)):
        if value < least:
            raise ValueError(f"{origin}: {name}: {value} must be {least} or more")


def shared_images(origin: str, train: Iterable[str], test: Iterable[str]) -> Iterator[str]:
    """Say which images are in both parts."""
    if shared := sorted(set(train) & set(test)):
        count = counted(len(shared), "test image")
        yield f"{origin}: {count} also in the training split: {listed(shared)}"


def walk(folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the files of a folder and of those within it, by links, too, but not in circles."""
    if (real := os.path.realpath(folder)) in above:
        return
    for entry in os.scandir(folder):
        if not entry.is_dir():
            yield entry.path
        elif not entry.name.startswith("."):
            yield from walk(entry.path, above | {real})


def other_kind(path: str) -> str:
    """Return which kind of file is left out; empty for an image."""
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if name.startswith("."):
        return "hidden"
    return "" if suffix in suffixes() else suffix or "without a suffix"


def is_image(path: str) -> bool:
    """Return whether a file is an image, by its name."""
    return not other_kind(path)


def orientation_notes(origin: str, images: Sequence[tuple[str, bool]], *, by: str) -> Iterator[str]:
    """Say which images (path, if turned) with an EXIF orientation are turned `by` what, or not."""
    for turned, verb in ((True, "turned"), (False, "not turned")):
        if paths := [path for path, each in images if each == turned]:
            count = counted(len(paths), "image")
            yield f"{origin}: {count} with an EXIF orientation {verb}, {by}: {listed(paths)}"
