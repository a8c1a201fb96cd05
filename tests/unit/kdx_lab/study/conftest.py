"""A study of two arms that runs in this process, and the reading of a study's text."""

import pytest

from kdx_lab.study.conduct import conduct
from kdx_lab.study.grid import open_study
from kdx_lab.study.reading import read_study
from tests.unit.kdx_lab.study import made


@pytest.fixture
def study(tmp_path, console):
    """Return a function: overrides of a study to its grid, and one that conducts that."""
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "base.yaml").write_text(made.BASE)
    (folder / "two.yaml").write_text(made.STUDY)

    def study(*overrides: str):
        options = {"plugins": ("tests",), "output_root": str(tmp_path / "runs")}
        path = str(folder / "two.yaml")
        grid = open_study(path, overrides, **options)

        def run(executor=None):
            return conduct(grid, console, executor or made.Here(), command=made.COMMAND)

        return grid, run

    return study


@pytest.fixture
def read(tmp_path):
    """Return a function: the text of a study, and overrides, to the study."""

    def read(text: str, *overrides: str):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        study, report = read_study(path, list(overrides))
        report.raise_any()
        return study

    return read
