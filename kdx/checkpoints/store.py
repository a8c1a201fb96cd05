"""Checkpoints as directories: committed by one rename, verified before use."""

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

__all__ = ["any_at", "digest_of", "newest", "prune", "read", "save", "state_of", "sweep"]

MANIFEST, STATE, FORMAT = "manifest.json", "state.json", 1
NAME = re.compile(r"epoch_(\d{4,9})(?:_step_(\d{6,9}))?")

T = TypeVar("T")


def save(directory: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write a checkpoint beside its place, bring it to the disk, then rename it there.

    Where the process is killed, or the disk is full (OSError), the other checkpoints still stand;
    nothing that bears a checkpoint's name is ever incomplete.
    """
    place, staging, old = (
        directory / name,
        directory / f".{name}.partial",
        directory / f".{name}.old",
    )
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
        if place.exists():  # one that did not verify, or its run would be further
            place.rename(old)
        staging.rename(place)
        sync_directory(directory)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"{place}: the checkpoint cannot be written ({reason}); those before it stand, and "
            "--resume goes on from them"
        ) from error
    finally:
        for left in (staging, old):
            shutil.rmtree(left, ignore_errors=True)
    return place


def read(place: Path) -> dict[str, bytes]:
    """Return the verified content of a checkpoint's files, by name.

    Raises ValueError naming all that is wrong: files that are missing, cut off or altered.
    """
    entries = _manifest(place)
    files, problems = {}, []
    for name, entry in entries.items():
        try:
            about = os.lstat(place / name)
            if not stat.S_ISREG(about.st_mode):
                problems.append(f"{name} is no plain file")
            elif about.st_size != entry["bytes"]:
                problems.append(f"{name} has {about.st_size:,} bytes, not {entry['bytes']:,}")
            else:
                files[name] = (place / name).read_bytes()
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
        if name in files and sha256(files[name]).hexdigest() != entry["sha256"]:
            problems.append(f"{name} was altered: its SHA-256 is not the manifest's")
    if problems:
        raise ValueError(f"{place}: {'; '.join(problems)}")
    return files


def any_at(run_dir: Path) -> bool:
    """Whether a run directory has checkpoints."""
    return any((run_dir / "checkpoints").glob(f"epoch_*/{MANIFEST}"))


def digest_of(place: Path) -> str:
    """Return the SHA-256 of a checkpoint's manifest, and so of all that it lists."""
    return sha256((place / MANIFEST).read_bytes()).hexdigest()


def newest(
    directory: Path, parse: Callable[[str, Mapping[str, bytes]], T]
) -> tuple[T | None, list[str]]:
    """Return what `parse(name, files)` makes of the newest one, and what is wrong with newer ones.

    One that does not verify, or that `parse` refuses by a ValueError, is passed over.
    """
    passed = []
    for place in reversed(_checkpoints(directory)):
        try:
            return parse(place.name, read(place)), passed
        except ValueError as error:
            passed.append(str(error))
    return None, passed


def prune(directory: Path, newest: str, *, keep: int, also: Collection[str] = ()) -> None:
    """Remove all but `keep` checkpoints up to `newest`, and those named in `also`.

    Those after the newest are of no use: a resume has passed them over. What is to be removed
    loses its name first: where that is cut off, or the system holds a file, `sweep` finishes it.
    """
    upto = [place for place in _checkpoints(directory) if _order(place.name) <= _order(newest)]
    kept = {place.name for place in upto[-keep:]} | set(also)
    for place in _checkpoints(directory):
        if place.name not in kept:
            shutil.rmtree(place.rename(directory / f".{place.name}.old"), ignore_errors=True)


def sweep(directory: Path) -> None:
    """Remove what a killed process left half-written."""
    for pattern in (".epoch_*.partial", ".epoch_*.old"):
        for left in directory.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def state_of(checkpoint: Path) -> dict[str, Any]:
    """Return the state of a checkpoint, which is verified first.

    ValueError where it is not a checkpoint of kdx; it lists those in the same run.
    """
    if not (checkpoint / MANIFEST).is_file():
        near = ", ".join(map(str, _near(checkpoint)))
        there = f". There are: {near}" if near else ", and there is none near it"
        raise ValueError(f"{checkpoint} is no checkpoint{there}")
    return json.loads(read(checkpoint)[STATE])


def _manifest(place: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a manifest; ValueError for one that is none."""
    path = place / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        known = manifest["format"] == FORMAT
        entries = manifest["files"]
        fit = all(
            Path(name).name == name and {"bytes", "sha256"} <= set(entry)
            for name, entry in entries.items()
        )
    except OSError as error:
        raise ValueError(f"{place}: {MANIFEST} cannot be read ({error.strerror})") from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {MANIFEST} is damaged") from error
    if not known:
        raise ValueError(f"{place}: {MANIFEST} has the format {manifest['format']}, not {FORMAT}")
    if not fit or STATE not in entries:
        raise ValueError(f"{place}: {MANIFEST} is damaged")
    return entries


def _checkpoints(directory: Path) -> list[Path]:
    """List what bears a checkpoint's name, the newest last."""
    places = [place for place in directory.glob("epoch_*") if NAME.fullmatch(place.name)]
    return sorted(places, key=lambda place: _order(place.name))


def _order(name: str) -> tuple[int, int]:
    found = NAME.fullmatch(name)
    assert found, "only checkpoints are listed"
    return int(found[1]), int(found[2] or 0)


def _near(path: Path) -> list[Path]:
    """List the checkpoints that may be meant by a path that is none, in order."""
    places = (path, path.parent, path / "checkpoints", path.parent / "checkpoints")
    found = (manifest for place in places for manifest in place.glob(f"epoch_*/{MANIFEST}"))
    return sorted({manifest.parent for manifest in found}, key=lambda place: _order(place.name))
