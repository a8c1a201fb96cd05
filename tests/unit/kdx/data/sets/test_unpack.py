import io
import tarfile

import pytest

from kdx.data.sets.fetch import unpack


def member(name: str, content: bytes = b"", **attributes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, io.BytesIO(content)


def pack(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, content)
    return path


def test_folders_and_files(tmp_path):
    archive = pack(
        tmp_path / "set.tar.gz",
        member("set", type=tarfile.DIRTYPE),
        member("set/a", b"first"),
        member("set/deep/b", b"second", mode=0o4777, uid=0),
    )
    new = tmp_path / "new"
    unpack(archive, new)
    found = {path.relative_to(new).as_posix() for path in new.rglob("*")}
    assert found == {"set", "set/a", "set/deep", "set/deep/b"}
    assert (new / "set/a").read_bytes() == b"first"
    assert (new / "set/deep/b").stat().st_mode & 0o7111 == 0


HOSTILE = {
    "climbs": (member("set/../../out", b"x"), r"'set/\.\./\.\./out' is outside the folder"),
    "absolute": (member("/out", b"x"), r"'/out' is outside the folder"),
    "symbolic link": (member("out", type=tarfile.SYMTYPE, linkname="/etc"), "'out' is neither"),
    "hard link": (member("out", type=tarfile.LNKTYPE, linkname="set/a"), "'out' is neither a file"),
    "device": (member("out", type=tarfile.CHRTYPE), "'out' is neither a file nor a folder"),
    "pipe": (member("out", type=tarfile.FIFOTYPE), "'out' is neither a file nor a folder"),
    "twice": (member("./set/a", b"other"), r"'\./set/a' is a duplicate"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_leads_elsewhere_is_refused_before_anything_is_written(case, tmp_path):
    hostile, message = HOSTILE[case]
    archive = pack(tmp_path / "set.tar.gz", member("set/a", b"good"), hostile)
    with pytest.raises(ValueError, match=rf"set\.tar\.gz: not unpacked: {message}"):
        unpack(archive, tmp_path / "new")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("keep", [0, 5, 100])
def test_a_damaged_archive(keep, tmp_path):
    archive = pack(tmp_path / "set.tar.gz", member("set/a", bytes(range(256)) * 40))
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"set\.tar\.gz: not unpacked: "):
        unpack(archive, tmp_path / "new")


def test_no_archive(tmp_path):
    (tmp_path / "set.tar.gz").write_text("<html>503</html>")
    with pytest.raises(ValueError, match=r"set\.tar\.gz: not unpacked: not a gzip file"):
        unpack(tmp_path / "set.tar.gz", tmp_path / "new")
