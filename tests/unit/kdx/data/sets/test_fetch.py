import hashlib
import io
import tarfile

import pytest

from kdx.data.sets.fetch import Remote, fetch_archive, fetch_files

CONTENT = bytes(range(256)) * 100


def remote(path, content: bytes | None = None) -> Remote:
    """Return the file as one to download; its SHA-256 is that of `content`, by default its own."""
    content = path.read_bytes() if content is None else content
    return Remote(path.as_uri(), hashlib.sha256(content).hexdigest())


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "elsewhere" / "set.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("set/a")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    return path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def fetch(root, archive: Remote, folder="set", download=True):
    fetch_archive("toy", root, archive=archive, folder=folder, download=download)


def test_an_archive_is_fetched_and_nothing_else_stays(root, archive):
    fetch(root, remote(archive))
    assert listed(root) == [".toy.lock", "set"]
    assert (root / "set/a").read_bytes() == CONTENT


def test_what_is_there_is_left_alone(root, archive):
    (root / "set").mkdir(parents=True)
    fetch(root, Remote("file:///nowhere/set.tar.gz", ""))
    assert listed(root / "set") == []


def test_an_archive_that_lies_there_already_is_used_if_it_is_the_right_one(root, archive):
    root.mkdir()
    right = remote(archive)
    (root / "set.tar.gz").write_bytes(archive.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"download failed \(file:///nowhere/set\.tar\.gz: "):
        fetch(root, Remote("file:///nowhere/set.tar.gz", right.sha256))
    (root / "set.tar.gz").write_bytes(archive.read_bytes())
    fetch(root, Remote("file:///nowhere/set.tar.gz", right.sha256))
    assert listed(root) == [".toy.lock", "set", "set.tar.gz"]


def test_another_checksum_is_refused_and_leaves_nothing(root, archive):
    message = r"set\.tar\.gz: its SHA-256 is [0-9a-f]{64}, not [0-9a-f]"
    with pytest.raises(ValueError, match=message):
        fetch(root, remote(archive, b"other"))
    assert listed(root) == [".toy.lock"]


def test_an_archive_of_something_else_leaves_nothing(root, archive):
    with pytest.raises(ValueError, match=r"set\.tar\.gz holds no folder other\); set root to"):
        fetch(root, remote(archive), folder="other")
    assert listed(root) == [".toy.lock"]


def test_what_a_killed_process_left_is_removed(root, archive):
    (root / ".toy.partial/unpacked/set").mkdir(parents=True)
    (root / ".toy.partial/unpacked/set/a").write_bytes(CONTENT[:100])
    fetch(root, remote(archive))
    assert listed(root) == [".toy.lock", "set"]
    assert (root / "set/a").read_bytes() == CONTENT


def test_no_download_is_allowed(root, archive):
    message = r"toy: not found in '.*root'; set root to where it is, or"
    with pytest.raises(ValueError, match=message):
        fetch(root, remote(archive), download=False)
    assert not root.exists()


def test_missing_files_are_fetched_one_by_one(root, tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    (root / "raw").mkdir(parents=True)
    (root / "raw/a").write_text("mine")
    files = [remote(tmp_path / "a"), remote(tmp_path / "b"), remote(tmp_path / "c", b"other")]
    with pytest.raises(ValueError, match=r"toy: .*/c: its SHA-256 is"):
        fetch_files("toy", root, files=files, folder="raw", download=True)
    assert listed(root / "raw") == ["a", "b"]
    files[2] = remote(tmp_path / "c")
    fetch_files("toy", root, files=files, folder="raw", download=True)
    assert [(root / "raw" / name).read_text() for name in "abc"] == ["mine", "b", "c"]
    assert listed(root) == [".toy.lock", "raw"]


def test_a_root_that_cannot_be_written(tmp_path, archive):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(ValueError, match=r"toy: .* the download failed \(.*File exists"):
        fetch(tmp_path / "root", remote(archive))
