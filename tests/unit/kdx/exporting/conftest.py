"""A finished run to export from."""

import shutil

import pytest


@pytest.fixture(scope="module")
def run_dir(distilled, tmp_path_factory):
    """Return a copy of a finished run, to export from."""
    return shutil.copytree(distilled[1], tmp_path_factory.mktemp("exported") / "run")
