"""Whose a run directory is."""

import os
import subprocess
import sys

import pytest

from kdx.run.directory import check_free, claimed
from kdx.run.run import run


def opened(path) -> list[int]:
    """Return this process's descriptors of a file."""
    found = []
    for number in range(3, 1024):
        try:
            if os.path.samestat(os.fstat(number), os.stat(path)):
                found.append(number)
        except OSError:
            continue
    return found


def test_a_run_that_is_over_lets_go_though_a_child_still_holds_its_lock(recipe):
    """As the forked workers of a loader do, which may outlive it."""
    plain = recipe()
    with claimed(plain, resume=False, overwrite=True):
        (lock,) = opened(plain.run_dir.with_name(".plain.lock"))
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock]
        )
        with pytest.raises(FileExistsError, match=r"is being trained by another process"):
            claimed(plain, resume=True, overwrite=False).__enter__()
    try:
        with claimed(plain, resume=True, overwrite=False) as aside:
            assert aside is None
    finally:
        child.communicate(b"\n")


def test_a_run_that_appears_meanwhile_is_neither_replaced_nor_trained_again(recipe, console):
    recipe = recipe("epochs=1")
    run_dir = run(recipe, console)
    before = (run_dir / "student.safetensors").read_bytes()
    for resume, message in ((False, "already exists"), (True, "has finished it meanwhile")):
        with pytest.raises(FileExistsError, match=message):
            claimed(recipe, resume=resume, overwrite=False).__enter__()
    assert (run_dir / "student.safetensors").read_bytes() == before


def test_a_folder_of_runs_is_not_a_run(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "my" / name).mkdir(parents=True)
        (tmp_path / "my" / name / "summary.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"my is a folder with other runs \(one, two\): give"):
        check_free(tmp_path / "my", resume=False, overwrite=False)
