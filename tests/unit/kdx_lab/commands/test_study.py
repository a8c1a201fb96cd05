"""What `kdx study` passes on; tests/integration/test_study_tool.py has what it prints."""

from pathlib import Path

import pytest

from kdx_lab.commands import study


class _Grid(str):
    cells = ()
    directory = Path("runs/a")


@pytest.fixture
def passed(monkeypatch):
    """Return what `conduct` and `report` get: their name and options."""
    calls = []
    monkeypatch.setattr(
        "kdx_lab.study.grid.open_study", lambda path, overrides, **more: _Grid(path)
    )
    for name in ("conduct", "report"):
        monkeypatch.setattr(
            f"kdx_lab.study.conduct.{name}",
            lambda grid, console, *on, name=name, **more: calls.append((name, grid, on, more)),
        )
    monkeypatch.setattr("kdx_lab.executors.local.Local", lambda jobs: f"local {jobs}")
    monkeypatch.setattr("kdx_lab.executors.ray.Ray", lambda address: f"ray {address}")
    monkeypatch.setattr("kdx_lab.executors.slurm.Slurm", lambda logs, options: (logs, options))
    return calls


def test_the_results_show_the_command_that_runs_the_study(run, passed):
    assert run(study, "a.yaml", "--jobs", "2", "seeds=[7]", "--plugin", "json") == 0
    assert run(study, "a.yaml", "--report", "--output-root", "out", "title=A b") == 0
    first = "kdx study a.yaml 'seeds=[7]' --jobs 2 --plugin=json"
    assert passed == [
        ("conduct", "a.yaml", ("local 2",), {"command": first}),
        ("report", "a.yaml", (), {"command": "kdx study a.yaml 'title=A b' --output-root=out"}),
    ]


def test_no_jobs_are_refused(run, passed, capsys):
    assert run(study, "a.yaml", "--jobs", "0") == 2
    assert capsys.readouterr().err == "error: --jobs 0: must be 1 or more\n"
    assert passed == []


def test_where_runs_train(run, passed):
    assert run(study, "a.yaml", "--on", "ray", "--address", "ray://head:10001") == 0
    slurm = ("--on", "slurm", "--jobs", "4", "--slurm=partition=gpu", "--slurm=time=1:00:00")
    assert run(study, "a.yaml", "--slurm=mem=4G", *slurm) == 0
    options = {"array_parallelism": "4", "mem": "4G", "partition": "gpu", "time": "1:00:00"}
    (_, _, ray, first), (_, _, (where,), second) = passed
    assert (ray, where) == (("ray ray://head:10001",), (Path("runs/a/logs"), options))
    assert first["command"] == "kdx study a.yaml --on ray --address=ray://head:10001"
    assert second["command"] == (
        "kdx study a.yaml --on slurm --jobs 4 --slurm.mem=4G --slurm.partition=gpu "
        "--slurm.time=1:00:00"
    )


def test_a_wrong_option_is_told_before_the_runs(run, passed, capsys):
    assert run(study, "a.yaml", "--on", "slurm", "--dry-run", "--slurm=patition=gpu") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: --slurm.patition: not an option of submitit")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--address", "x"], "--address is for --on ray, and this is --on local"),
        (["--on", "ray", "--slurm=mem=1"], "--slurm is for --on slurm, and this is --on ray"),
        (["--on", "ray", "--jobs", "2"], "--jobs is for --on local and slurm: Ray starts what"),
        (["--on", "slurm", "--slurm=mem"], "--slurm.mem: write --slurm.KEY=VALUE"),
    ],
)
def test_options_of_another_place_are_refused(run, passed, capsys, words, error):
    assert run(study, "a.yaml", *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {error}")
