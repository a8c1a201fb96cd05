"""Archives from elsewhere, unpacked into one folder and nowhere else."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the folders and plain files of a .tar.gz into `folder`, which is new.

    Raises ValueError naming the archive and the member, before anything is written, for links,
    devices, absolute names, names with "..", and duplicates; also for a damaged archive.
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
