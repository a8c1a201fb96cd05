"""Whose a run directory is."""

import os
import subprocess
import sys

import pytest

from kdx.run.directory import claimed


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
    run = recipe()
    with claimed(run, resume=False):
        (lock,) = opened(run.run_dir.with_name(".plain.lock"))
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock]
        )
        with pytest.raises(FileExistsError, match=r"is being trained by another process"):
            claimed(run, resume=True).__enter__()
    try:
        with claimed(run, resume=True) as aside:
            assert aside is None
    finally:
        child.communicate(b"\n")
