"""Files that are written whole, what a killed process leaves of them, and full disks."""

import errno
import os
import subprocess
import sys

import pytest

from kdx.util.files import append, placed, replacing, sweep, write_whole
from kdx.util.words import check_text

KILLED = """\
import os, pathlib, signal, sys
from kdx.util.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next_write_of_that_file(tmp_path):
    path = tmp_path / "student.safetensors"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -9
    assert len(names(tmp_path)) == 1
    write_whole(tmp_path / "student", "another file")
    assert len(names(tmp_path)) == 2
    write_whole(path, "whole")
    assert names(tmp_path) == ["student", "student.safetensors"]


def test_a_sweep_leaves_what_a_living_process_writes(tmp_path):
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    for name in (f".a.{os.getppid()}.partial", ".b.1.partial", ".c.partial", "d.1.partial"):
        (tmp_path / name).touch()
    kept = names(tmp_path)
    (tmp_path / f".a.json.{dead.pid}.partial").touch()
    (tmp_path / f".b[1].{os.getpid()}.partial").touch()
    sweep(tmp_path)
    assert names(tmp_path) == kept
    sweep(tmp_path / "absent")


def test_errors_of_writing_name_the_file_and_not_its_partial_one(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "report.md"
    with pytest.raises(OSError, match=rf"^{path}: cannot be written \(No space left on device\)$"):
        write_whole(path, "text")
    assert names(tmp_path) == []
    with pytest.raises(OSError, match=rf"^{path}: cannot be written \(No space"), replacing(path):
        full(0)
    message = rf"^{tmp_path}/no/x: cannot be written \(No such file"
    with pytest.raises(OSError, match=message), placed(tmp_path):  # the inner one stays
        append(tmp_path / "no" / "x", "text")


def test_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: order.append(os.fstat(handle).st_size))
    monkeypatch.setattr(os, "replace", lambda *names: order.append("named") or replace(*names))
    write_whole(tmp_path / "report.md", "text")
    assert order[:2] == [4, "named"]
    assert len(order) == 3  # the directory


def test_text_is_utf_8(tmp_path):
    append(tmp_path / "x", "±")
    append(tmp_path / "x", "é\n")
    assert (tmp_path / "x").read_bytes() == "±é\n".encode()


def test_a_path_that_cannot_be_written_as_text_is_refused():
    check_text("/café")
    with pytest.raises(ValueError, match=r"not UTF-8 in this locale: rename it, or set LC_ALL=C"):
        check_text("/caf\udce9")
