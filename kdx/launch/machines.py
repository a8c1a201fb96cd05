"""A run over machines that share no files: what the main process decides and has, others get."""

import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from kdx.checkpoints.store import MANIFEST, digest_of

FILE = "file "  # before its digest

T = TypeVar("T")


def is_alone() -> bool:
    """Return whether there is one process only."""
    return PartialState().num_processes == 1


def decided(value: T) -> T:
    """Return the main process's value on every process; all call it."""
    return value if is_alone() else broadcast_object_list([value])[0]


def on_main_machine() -> bool:
    """Return whether this process is on the machine of the main one, by their launcher."""
    state = PartialState()
    return state.process_index == state.local_process_index


def bring(places: Iterable[Path]) -> None:
    """Copy files and checkpoints of the main process's machine to those that lack them.

    A checkpoint that is another one is replaced; another file is a ValueError, on all processes.
    All call it, with the same number of places; one of each machine writes.
    """
    state = PartialState()
    for place in () if is_alone() else places:
        marks = gather_object([_mark(place)])
        if all(mark == marks[0] for mark in marks):
            continue
        if marks[0].startswith(FILE) and any(mark not in ("", marks[0]) for mark in marks):
            raise ValueError(
                f"{place}: another file than on the main process's machine: remove it where it is "
                "not to be used; then it is copied from there"
            )
        content = decided(_read(place) if state.is_main_process else {})
        if content and state.is_local_main_process and _mark(place) != marks[0]:
            _write(place, content)
        state.wait_for_everyone()


def _mark(place: Path) -> str:
    """Return the digest of a checkpoint's manifest, or of a file; "" if there is neither."""
    if (place / MANIFEST).is_file():
        return digest_of(place)
    return FILE + sha256(place.read_bytes()).hexdigest() if place.is_file() else ""


def _read(place: Path) -> dict[str, bytes]:
    """Return the files of a directory by name; a file alone by ""; nothing if neither is there."""
    if place.is_file():
        return {"": place.read_bytes()}
    found = place.iterdir() if place.is_dir() else ()
    return {path.name: path.read_bytes() for path in found if path.is_file()}


def _write(place: Path, content: dict[str, bytes]) -> None:
    partial = place.with_name(f".{place.name}.brought.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, data in content.items():
        (partial / (name or place.name)).write_bytes(data)
    shutil.rmtree(place, ignore_errors=True)
    (partial / place.name if "" in content else partial).rename(place)
    shutil.rmtree(partial, ignore_errors=True)
