"""Checkpoint directories: committed by one rename, verified before use."""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from kdx.util.files import put, sync_directory

MANIFEST, STATE, FORMAT = "manifest.json", "state.json", 1
NAME = re.compile(r"epoch_(\d{4,9})(?:_step_(\d{6,9}))?")

T = TypeVar("T")


def save(place: Path, files: Mapping[str, bytes]) -> None:
    """Write the checkpoint `place` beside it, bring it to the disk, then rename it.

    If the process is killed or the disk is full (OSError), the other checkpoints are intact; a
    directory with a checkpoint's name is never incomplete.
    """
    staging, old = (place.with_name(f".{place.name}.{end}") for end in ("partial", "old"))
    entries = {
        file: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        for file, content in files.items()
    }
    manifest = json.dumps({"format": FORMAT, "files": entries}, indent=2) + "\n"
    try:
        for left in (staging, old):
            shutil.rmtree(left, ignore_errors=True)
        staging.mkdir(parents=True)
        for file, content in files.items():
            put(staging / file, content)
        put(staging / MANIFEST, manifest.encode())
        sync_directory(staging)
        if place.exists():  # a damaged one: a resume has passed over it
            place.rename(old)
        staging.rename(place)
        sync_directory(place.parent)
    except OSError as error:
        raise OSError(
            f"{place}: cannot write the checkpoint ({error.strerror or error}); earlier "
            "checkpoints are intact: make room and pass --resume"
        ) from error
    finally:
        for left in (staging, old):
            shutil.rmtree(left, ignore_errors=True)


def read(place: Path) -> dict[str, bytes]:
    """Return the verified content of a checkpoint's files, by name.

    Raises ValueError naming all files that are missing, truncated or changed; for a path that is
    not a checkpoint, the error lists those near it.
    """
    if not (place / MANIFEST).exists():
        near = ", ".join(map(str, _near(place)))
        found = f"found these: {near}" if near else "none found near it"
        raise ValueError(f"{place} is not a checkpoint; {found}")
    files, problems = {}, []
    for name, entry in _manifest(place).items():
        try:
            about = os.lstat(place / name)
            if not stat.S_ISREG(about.st_mode):
                problems.append(f"{name} is not a regular file")
            elif about.st_size != entry["bytes"]:
                problems.append(f"{name} has {about.st_size:,} bytes, not {entry['bytes']:,}")
            else:
                files[name] = (place / name).read_bytes()
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
        if name in files and sha256(files[name]).hexdigest() != entry["sha256"]:
            problems.append(f"{name} was changed: its SHA-256 is not the manifest's")
    if problems:
        raise ValueError(f"{place}: {'; '.join(problems)}")
    return files


def any_at(run_dir: Path) -> bool:
    """Return whether a run directory has checkpoints."""
    return any((place / MANIFEST).is_file() for place in _checkpoints(run_dir / "checkpoints"))


def digest_of(place: Path) -> str:
    """Return the SHA-256 of a checkpoint's manifest, and so of all that it lists."""
    return sha256((place / MANIFEST).read_bytes()).hexdigest()


def newest(directory: Path, read: Callable[[Path], T]) -> tuple[T | None, list[str]]:
    """Return what `read` makes of the newest checkpoint, and what is wrong with newer ones.

    A checkpoint for which `read` raises ValueError is passed over.
    """
    passed = []
    for place in reversed(_checkpoints(directory)):
        try:
            return read(place), passed
        except ValueError as error:
            passed.append(str(error))
    return None, passed


def prune(newest: Path, *, keep: int, also: Collection[str | None] = ()) -> None:
    """Remove all but `keep` checkpoints up to `newest`, and those named in `also`.

    Later ones are removed, too: a resume has passed over them. A directory is renamed before it is
    removed: if that is interrupted, or a file is in use, `sweep` finishes it.
    """
    there = _checkpoints(newest.parent)
    upto = [place.name for place in there if _order(place) <= _order(newest)]
    for place in there:
        if place.name not in {*upto[-keep:], *also}:
            shutil.rmtree(place.rename(place.with_name(f".{place.name}.old")), ignore_errors=True)


def sweep(directory: Path) -> None:
    """Remove what a killed process left half-written."""
    for pattern in (".epoch_*.partial", ".epoch_*.old"):
        for left in directory.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def _manifest(place: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a manifest; ValueError if it is damaged."""
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        known = manifest["format"] == FORMAT
        entries = manifest["files"]
        fit = STATE in entries and all(
            Path(name).name == name
            and isinstance(entry.get("bytes"), int)
            and isinstance(entry.get("sha256"), str)
            for name, entry in entries.items()
        )
    except OSError as error:
        raise ValueError(f"{place}: {MANIFEST} cannot be read ({error.strerror})") from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {MANIFEST} is damaged") from error
    if not known:
        raise ValueError(f"{place}: {MANIFEST} has the format {manifest['format']}, not {FORMAT}")
    if not fit:
        raise ValueError(f"{place}: {MANIFEST} is damaged")
    return entries


def _checkpoints(directory: Path) -> list[Path]:
    """List the directories with a checkpoint's name, the newest last."""
    return sorted((p for p in directory.glob("epoch_*") if NAME.fullmatch(p.name)), key=_order)


def _order(place: Path) -> tuple[int, int]:
    found = NAME.fullmatch(place.name)
    assert found, "only checkpoints are listed"
    return int(found[1]), int(found[2] or 0)


def _near(path: Path) -> list[Path]:
    """List the checkpoints that a wrong path may mean, in order."""
    places = {path, path.parent, path / "checkpoints", path.parent / "checkpoints"}
    found = {each for place in places for each in _checkpoints(place) if (each / MANIFEST).exists()}
    return sorted(found, key=_order)
