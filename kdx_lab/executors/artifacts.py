"""Files on their way to another machine and back: tar archives, known by their contents."""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from kdx.memo.plan import readable
from kdx.models.weights import FILE_IN_RUN
from kdx_lab.executors.task import Task

__all__ = ["digest", "needed_by", "packed", "take_back", "unpacked"]

PASSING = (".partial", ".lock")  # what is not part of a run


def packed(path: Path) -> bytes:
    """Return a file or a directory as an archive; FileNotFoundError if it changes meanwhile."""
    buffer, inside = io.BytesIO(), path.is_dir()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for each in sorted(path.rglob("*")) if inside else [path]:
            if each.is_file() and not each.name.endswith(PASSING):
                name = str(each.relative_to(path)) if inside else each.name
                archive.add(each, name, recursive=False)
    return buffer.getvalue()


def unpacked(content: bytes, place: Path, *, keep: bool = False) -> None:
    """Make a directory of an archive, in place of what is there.

    With `keep`, what another process has made there meanwhile stays: it may be in use. What was
    there comes back if this fails; `take_back` does it if the process was killed.
    """
    take_back(place)
    arriving = place.with_name(f".{place.name}.{os.getpid()}.partial")
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(arriving, filter="data")
        if place.exists() and not keep:
            place.rename(_aside(place))
        try:
            arriving.rename(place)
        except OSError:
            if not (keep and place.is_dir()):
                raise
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
        take_back(place)


def take_back(place: Path) -> None:
    """Rename what `unpacked` moved aside to `place` again if that is missing; else remove it."""
    left = _aside(place)
    if place.exists():
        shutil.rmtree(left, ignore_errors=True)
    elif left.exists():
        left.rename(place)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.old.partial")


def digest(content: bytes) -> str:
    """Return the SHA-256 of an archive, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def needed_by(task: Task) -> Iterator[tuple[str, Path]]:
    """Yield the files of weights by the recipe's key, and as "" the memos that it may read."""
    for key, given in task.weights.items():
        path = Path(given)
        if path.exists():
            yield key, path / FILE_IN_RUN if path.is_dir() else path
    for about in sorted(Path(task.root).glob("memos/*/memo.json")):
        found = readable(about.parent)
        parts = found["ingredients"] if found else {}
        if parts.get("teacher") in task.teachers and parts.get("seed") in (None, task.seed):
            yield "", about.parent
