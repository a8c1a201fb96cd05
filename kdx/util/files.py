"""Files that are written whole or not at all, and locks."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file atomically; OSError with the path, and the old file stays, if that fails."""
    with replacing(path) as partial:
        put(partial, content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden path to write a file at, and rename that file to `path` at the end."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with placed(path):
        sweep(path.parent, path.name)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    sync_directory(path.parent)


def move(source: Path, path: Path) -> None:
    """Rename a file, over another if need be, durably; OSError with the path if that fails."""
    with placed(path):
        os.replace(source, path)
    sync_directory(path.parent)


def append(path: Path, text: str) -> None:
    """Append text to a file, created if needed; OSError with the path."""
    with placed(path), path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def put(path: Path, content: bytes | IO[bytes]) -> None:
    """Write a file, from a stream if one is given, and wait until it is on the disk."""
    with path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            shutil.copyfileobj(content, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk, if the system can do that."""
    with suppress(OSError):  # Windows opens no directories; some network file systems cannot sync
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def locked(path: Path, *, busy: str = "") -> Iterator[None]:
    """Hold the lock file at `path` against other processes; a killed process releases it.

    It waits for another to release it, or raises FileExistsError with the message `busy`, if given.
    On a file system without locks nothing is held.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0 if busy else -1)
    except Timeout:
        raise FileExistsError(busy) from None
    except (OSError, NotImplementedError):  # a file system, or a system, without locks
        pass
    try:
        yield
    finally:
        lock.release()


def sweep(directory: Path, name: str = "") -> None:
    """Remove what a process that was killed left of `write_whole`: of the file `name`, or of all.

    What a process writes that still runs on this machine stays.
    """
    pattern = re.compile(rf"\.{re.escape(name) if name else '.+'}\.(\d+)\.partial")
    with suppress(FileNotFoundError):
        for left in directory.iterdir():
            if (found := pattern.fullmatch(left.name)) and not _writes(int(found[1])):
                with suppress(OSError):  # Windows removes no file that is open
                    left.unlink()


def _writes(process: int) -> bool:
    """Return whether another process of this number runs; False if the system does not say."""
    if os.name != "posix" or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


@contextmanager
def placed(path: Path) -> Iterator[None]:
    """Add the path to errors of writing, which do not name it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it names a path already
            raise
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from error
