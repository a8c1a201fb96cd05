import os
import signal
from types import SimpleNamespace

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from kdx.commands import launch
from kdx.commands.main import main

RECIPE = "data: {use: digits, limit: 64, batch_size: 32}\nstudent: {use: smallnet}\nepochs: 1\n"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Stand in a directory with a recipe; return the calls of `kdx.run.run.run`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(RECIPE)
    calls = []
    monkeypatch.setattr(
        "kdx.run.run.run", lambda recipe, console, **options: calls.append((recipe, options))
    )
    return calls


@pytest.fixture
def launched(monkeypatch):
    """Return the launches: (processes, command line of each)."""
    calls = []
    monkeypatch.setattr("kdx.commands.launch.launch", lambda *call: calls.append(call))
    return calls


def test_one_process_runs_here_and_says_how_many_it_is(runs, launched):
    assert main(["distill", "a.yaml", "--processes", "1", "--resume"]) == 0
    ((recipe, options),) = runs
    assert recipe.processes == 1
    assert options == {"overwrite": False, "resume": True}
    assert launched == []


def test_fork_is_passed_on_only_when_given(runs):
    assert main(["distill", "a.yaml", "--fork", "runs/a/checkpoints/epoch_0001"]) == 0
    assert main(["distill", "a.yaml"]) == 0
    assert [str(options.get("fork")) for _, options in runs] == [
        "runs/a/checkpoints/epoch_0001",
        "None",
    ]


def test_several_processes_get_all_arguments_and_the_number(runs, launched):
    typed = ["a.yaml", "--processes", "3", "epochs=2", "--overwrite", "--output-root", "x y"]
    assert main(["distill", *typed, "--fork", "c"]) == 0
    assert runs == []
    expected = ["a.yaml", "epochs=2", "processes=3", "--overwrite", "--fork", "c"]
    assert launched == [(3, [*expected, "--output-root=x y"])]


@pytest.mark.parametrize("flags", [["--fork", "c"], ["--resume"]])
def test_a_dry_run_is_of_a_new_run(flags, runs, capsys):
    assert main(["distill", "a.yaml", "--dry-run", *flags]) == 2
    assert f"{flags[0]}: a dry run is of a new run from scratch" in capsys.readouterr().err


def test_a_wrong_recipe_is_refused_before_anything_starts(launched, runs, capsys):
    assert main(["distill", "a.yaml", "epoch=2", "--processes", "2"]) == 2
    assert "unknown key. Did you mean 'epochs'?" in capsys.readouterr().err
    assert launched == []


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_wrong_number_of_processes_is_refused(number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["distill", "a.yaml", "--processes", number])
    said = capsys.readouterr().err
    assert f"argument --processes: {number!r} is not an integer of 1 or more" in said


def test_processes_are_refused_under_a_launcher(runs, launched, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert main(["distill", "a.yaml", "--processes", "2"]) == 2
    assert capsys.readouterr().err == (
        "error: --processes 2: a launcher has already started this process (WORLD_SIZE=4); "
        "use one of the two\n"
    )
    assert launched == runs == []


def ended(code: int, rank: int = 1) -> ChildFailedError:
    failure = SimpleNamespace(exitcode=code, timestamp=0, local_rank=rank, pid=1, error_file="")
    failure.message = failure.timestamp_isoformat = lambda: ""
    error = ChildFailedError.__new__(ChildFailedError)
    error.name, error.failures = "kdx", {rank: failure}
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, None, ""),
        (ended(2), 2, ""),
        (ended(3), 3, ""),
        (ended(-9), 1, "error: the process of rank 1 was killed by SIGKILL\n"),
        (SignalException("stop", signal.SIGTERM), 3, ""),
    ],
)
def test_the_launcher_passes_on_how_its_processes_end(error, code, said, monkeypatch, capsys):
    commands = []

    def launch_command(args):
        commands.append(args)
        assert os.environ["OMP_NUM_THREADS"]
        if error:
            raise error

    monkeypatch.setattr(launch, "launch_command", launch_command)
    monkeypatch.setattr(launch.logging, "disable", lambda level: None)
    for name in ("OMP_NUM_THREADS", "ACCELERATE_USE_CPU"):
        monkeypatch.setenv(name, "1")
    if error is None:
        launch.launch(2, ["a.yaml", "--resume"])
    else:
        with pytest.raises(SystemExit) as exited:
            launch.launch(2, ["a.yaml", "--resume"])
        assert exited.value.code == code
    assert capsys.readouterr().err == said
    (args,) = commands
    assert (args.multi_gpu, args.num_processes, args.module) == (True, 2, True)
    assert (args.training_script, args.training_script_args) == (
        "kdx",
        ["distill", "a.yaml", "--resume"],
    )


def test_a_scale_is_not_measured_in_several_processes(runs, launched, capsys):
    assert main(["distill", "a.yaml", "--dry-run", "--gpus", "8", "--processes", "2"]) == 2
    assert "--processes 2: --machines and --gpus scale what one process" in capsys.readouterr().err
    assert launched == []
