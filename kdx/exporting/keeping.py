"""Where an artefact lies: whole beside its certificate's row, or not at all."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from kdx.exporting.source import Source
from kdx.util.errors import CertificateError
from kdx.util.files import locked, move, placed, write_whole


def check_free(path: Path, shown: str, exports: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError if an export would replace something that is no export of the student."""
    place = path.parent if path.name == "model.safetensors" else path  # timm's is the folder
    taken = any(place.iterdir()) if place.is_dir() else place.exists()
    if taken and shown not in (each["file"] for each in exports):
        raise ValueError(f"output: {place} exists: remove it, or choose another name")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a new hidden folder beside it, which is removed at the end.

    A format may write several files, which know each other by name.
    """
    new = not path.parent.exists()
    with placed(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if new:
            with suppress(OSError):  # it is not empty
                path.parent.rmdir()


def keep(candidate: Path, final: Path, certificate: Path, row: dict[str, Any]) -> None:
    """Move the files beside `candidate` beside `final`, and put the row into certificate.json.

    It has no row of the file while that is replaced: so it says nothing of one that is half there.
    """
    with locked(certificate.with_name(f".{certificate.name}.lock")):
        found = read_certificate(certificate)
        others = [each for each in found["exports"] if each["file"] != row["file"]]
        if len(others) < len(found["exports"]):
            _write_json(certificate, found | {"exports": others})
        for file in sorted(each for each in candidate.parent.rglob("*") if each.is_file()):
            target = final.parent / file.relative_to(candidate.parent)
            target.parent.mkdir(exist_ok=True)
            move(file, target)
        _write_json(certificate, found | {"exports": [*others, row]})


def name_in_certificate(path: Path, source: Source) -> str:
    """Return a path as in certificate.json: relative to the run, if it lies in it."""
    place = (source.run or path.parent).resolve()
    whole = path.resolve()
    return whole.relative_to(place).as_posix() if whole.is_relative_to(place) else str(whole)


def read_certificate(path: Path) -> dict[str, Any]:
    """Return the content of certificate.json, with "exports"; CertificateError if it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        rows = [each for each in found.get("exports", []) if each["file"]]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise CertificateError(f"{path}: cannot be read: {error}") from error
    return found | {"exports": rows}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=2) + "\n")
