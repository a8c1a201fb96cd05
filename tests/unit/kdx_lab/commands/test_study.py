"""What `kdx study` passes on; tests/integration/test_study_tool.py has what it prints."""

import pytest

from kdx_lab.commands import study


@pytest.fixture
def passed(monkeypatch):
    """Return what `conduct` and `report` get: their name and options."""
    calls = []
    monkeypatch.setattr("kdx_lab.study.grid.open_study", lambda path, overrides, **more: path)
    for name in ("conduct", "report"):
        monkeypatch.setattr(
            f"kdx_lab.study.conduct.{name}",
            lambda grid, console, name=name, **more: calls.append((name, grid, more)),
        )
    return calls


def test_the_results_show_the_command_that_runs_the_study(run, passed):
    assert run(study, "a.yaml", "--jobs", "2", "seeds=[7]", "--plugin", "json") == 0
    assert run(study, "a.yaml", "--report", "--output-root", "out", "title=A b") == 0
    first = "kdx study a.yaml 'seeds=[7]' --jobs 2 --plugin=json"
    assert passed == [
        ("conduct", "a.yaml", {"jobs": 2, "command": first}),
        ("report", "a.yaml", {"command": "kdx study a.yaml 'title=A b' --output-root=out"}),
    ]


def test_no_jobs_are_refused(run, passed, capsys):
    assert run(study, "a.yaml", "--jobs", "0") == 2
    assert capsys.readouterr().err == "error: --jobs 0: must be 1 or more\n"
    assert passed == []
