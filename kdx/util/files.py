"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["append", "put", "sync_directory", "write_whole"]


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file beside its place, bring it to the disk, and rename it there.

    OSError with the path where it cannot be written, a full disk say; what stood there still does.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _placed(path):
        try:
            put(partial, content.encode() if isinstance(content, str) else content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    sync_directory(path.parent)


def append(path: Path, text: str) -> None:
    """Add text to a file, made where there is none; OSError with the path."""
    with _placed(path), path.open("a") as file:
        file.write(text)


def put(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk, where the system can do that."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:  # Windows opens no directories
        return
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _placed(path: Path) -> Iterator[None]:
    """Say which file it is that cannot be written: errors of writing do not."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from error
