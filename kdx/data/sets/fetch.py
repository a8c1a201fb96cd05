"""Downloads that are whole, or not there: verified beside their place, then renamed into it."""

import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from rich.console import Console
from rich.progress import wrap_file

from kdx.util.files import locked, placed, put, sync_directory

TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Remote:
    """A file to download, and the SHA-256 that it must have."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]


def fetch_archive(origin: str, root: Path, *, archive: Remote, folder: str, download: bool) -> None:
    """Put `folder` of a .tar.gz, which may lie in `root` already, into `root`, unless it is there.

    ValueError if a download is not allowed, fails or is damaged; nothing is left behind then.
    """
    with _staging(origin, root, download) as staging:
        if (root / folder).exists():  # another process has fetched it meanwhile
            return
        source = root / archive.name
        if not source.is_file() or _sha256(source) != archive.sha256:
            source = _download(archive, staging)
        unpack(source, staging / "unpacked")
        unpacked = staging / "unpacked" / folder
        if not unpacked.is_dir():
            raise ValueError(f"{archive.name} holds no folder {folder}")
        for path in unpacked.rglob("*"):
            sync_directory(path)
        unpacked.rename(root / folder)


def fetch_files(
    origin: str, root: Path, *, files: Sequence[Remote], folder: Path, download: bool
) -> None:
    """Put the files that are missing there into `root`/`folder`; errors as `fetch_archive`."""
    with _staging(origin, root, download) as staging:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for remote in files:
            place = root / folder / remote.name
            if not place.exists():
                _download(remote, staging).rename(place)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the folders and plain files of a .tar.gz into `folder`, which is new.

    ValueError, before anything is written, names links, devices, names that are absolute or have
    "..", and duplicates; also for a damaged archive.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members, names = tar.getmembers(), set()
            for member in members:
                name = PurePosixPath(member.name)
                if not (member.isreg() or member.isdir()):
                    raise ValueError(f"{member.name!r} is neither a file nor a folder")
                if name.is_absolute() or ".." in name.parts:
                    raise ValueError(f"{member.name!r} is outside the folder")
                if member.isreg() and name in names:
                    raise ValueError(f"{member.name!r} is a duplicate")
                names.add(name)
                member.mode = 0o644  # of files: the filter ignores it for folders
            tar.extractall(folder, members, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{archive.name}: not unpacked: {error}") from error


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Say what helps where the files of a published set are damaged."""
    try:
        yield
    except ValueError as error:
        advice = f"Restore the files in {str(folder)!r}, or set root to another folder"
        raise ValueError(f"{error}. {advice}") from error


@contextmanager
def _staging(origin: str, root: Path, allowed: bool) -> Iterator[Path]:
    """Yield a new folder in `root` that only this process uses, and remove it afterwards."""
    if not allowed:
        missing = f"{origin}: not found in {str(root)!r}"
        raise ValueError(f"{missing}; set root to where it is, or download: true")
    staging = root / f".{origin}.partial"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f".{origin}.lock"):
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except (OSError, ValueError) as error:
        failed = f"not found in {str(root)!r}, and the download failed ({error})"
        raise ValueError(f"{origin}: {failed}; set root to where it is") from error


def _download(remote: Remote, folder: Path) -> Path:
    """Download a file into `folder` and return its path; ValueError if it is not the right one."""
    path, screen = folder / remote.name, Console(stderr=True)
    try:
        with urlopen(remote.url, timeout=TIMEOUT) as response:
            total = int(response.headers["Content-Length"] or 0)
            shown = wrap_file(response, total, description=remote.name, console=screen)
            with shown as content, placed(path):
                put(path, content)
    except (OSError, HTTPException) as error:
        bare = isinstance(error, URLError) and not isinstance(error, HTTPError)
        reason = getattr(error, "reason", "") if bare else str(error) or type(error).__name__
        raise ValueError(f"{remote.url}: {reason}") from error
    size, found = path.stat().st_size, _sha256(path)
    if total and size != total:
        raise ValueError(f"{remote.url}: ended after {size:,} of {total:,} bytes")
    if found != remote.sha256:
        raise ValueError(f"{remote.url}: its SHA-256 is {found}, not {remote.sha256}")
    sync_directory(path)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
