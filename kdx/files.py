"""Files that appear whole or not at all."""

import os
from pathlib import Path

__all__ = ["put", "sync_directory", "write_whole"]


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file beside its place, bring it to the disk, and rename it there.

    OSError where it cannot be written, a full disk say; what stood at `path` stands there still.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        put(partial, content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_directory(path.parent)


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
        os.fsync(handle)
    finally:
        os.close(handle)
