"""Checkpoints as directories: committed by one rename, verified before use."""

import json
import re
import shutil
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from kdx.files import put, sync_directory

__all__ = ["newest", "prune", "read", "save", "state_of", "sweep"]

MANIFEST, STATE, FORMAT = "manifest.json", "state.json", 1
NAME = re.compile(r"epoch_(\d+)(?:_step_(\d+))?")


def save(directory: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write a checkpoint beside its place, bring it to the disk, then rename it there.

    Where the process is killed, or the disk is full (OSError), what was there before still is;
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
            content = (place / name).read_bytes()
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
            continue
        files[name] = content
        if len(content) != entry["bytes"]:
            problems.append(f"{name} has {len(content):,} bytes, not {entry['bytes']:,}")
        elif sha256(content).hexdigest() != entry["sha256"]:
            problems.append(f"{name} was altered: its SHA-256 is not the manifest's")
    if problems:
        raise ValueError(f"{place}: {'; '.join(problems)}")
    return files


def newest(directory: Path) -> tuple[Path | None, dict[str, bytes], list[str]]:
    """Return the newest checkpoint that verifies, its files, and what is wrong with newer ones."""
    passed = []
    for place in reversed(_checkpoints(directory)):
        try:
            return place, read(place), passed
        except ValueError as error:
            passed.append(str(error))
    return None, {}, passed


def prune(directory: Path, *, keep: int, also: Collection[str] = ()) -> None:
    """Remove all but the newest `keep` checkpoints and those named in `also`.

    One to be removed loses its name first: where that is cut off, `sweep` finishes it.
    """
    for place in _checkpoints(directory)[:-keep]:
        if place.name not in also:
            shutil.rmtree(place.rename(directory / f".{place.name}.old"))


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
    return sorted(places, key=_order)


def _order(place: Path) -> tuple[int, int]:
    found = NAME.fullmatch(place.name)
    assert found, "only checkpoints are listed"
    return int(found[1]), int(found[2] or 0)


def _near(path: Path) -> list[Path]:
    """List the checkpoints that may be meant by a path that is none, in order."""
    places = (path, path.parent, path / "checkpoints", path.parent / "checkpoints")
    found = (manifest for place in places for manifest in place.glob(f"epoch_*/{MANIFEST}"))
    return sorted({manifest.parent for manifest in found}, key=_order)
