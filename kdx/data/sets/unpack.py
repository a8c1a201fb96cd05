"""Archives from elsewhere, unpacked into one folder and nowhere else."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath

from kdx.util.files import put

__all__ = ["unpack"]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the folders and plain files of a .tar.gz into `folder`, which is new.

    Raises ValueError naming the archive and the member for whatever else is in it (links,
    devices) and for names that are absolute, climb by "..", or come twice: before anything is
    written; and for an archive that is damaged.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = tar.getmembers()
            _check_members(members)
            folder.mkdir(parents=True)
            for member in members:
                path = folder / member.name
                if member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None
                put(path, content)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{archive.name}: not unpacked: {error}") from error


def _check_members(members: list[tarfile.TarInfo]) -> None:
    names = set()
    for member in members:
        name = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()):
            raise ValueError(f"{member.name!r} is neither a file nor a folder")
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{member.name!r} leads out of the folder")
        if member.isreg() and name in names:
            raise ValueError(f"{member.name!r} comes twice")
        names.add(name)
