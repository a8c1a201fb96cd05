import argparse
import os
import subprocess
import sys

import pytest
import torch
from torch.utils import data

from kdx.commands.shared import add_common, guarded
from kdx.recipe import Problem, RecipeError, allow, load
from kdx.util.errors import CertificateError, Stopped, TrainingError


def raising(error):
    def main():
        raise error

    return main


def test_success():
    assert guarded(lambda: None) == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("epochs: 0"), 2, "error: epochs: 0\n"),
        (FileNotFoundError("x: no such file"), 2, "error: x: no such file\n"),
        (CertificateError("runs/x: differs"), 1, "error: runs/x: differs\n"),
        (TrainingError("the loss 'kd' became nan"), 1, "error: the loss 'kd' became nan\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_that_a_person_can_act_on(error, code, said, capsys, monkeypatch):
    monkeypatch.delenv("KDX_DEBUG", raising=False)
    assert guarded(raising(error)) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("resumes", "again"),
    [
        (True, "to continue, run the same command with --resume"),
        (False, "to continue, run the same command"),
    ],
)
def test_a_stopped_command_says_how_to_continue(resumes, again, capsys, monkeypatch):
    monkeypatch.setattr("kdx.commands.shared.signal.signal", lambda *_: None)
    assert guarded(raising(Stopped()), resumes=resumes) == 3
    assert capsys.readouterr().err == f"stopped by a signal, before the first step; {again}\n"


def test_a_stopped_overwrite_is_resumed_and_a_teacher_continued(capsys, monkeypatch):
    monkeypatch.setattr("kdx.commands.shared.signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["kdx", "distill", "a.yaml", "--overwrite"])
    guarded(raising(Stopped()), resumes=True)
    assert "the same command with --resume instead of --overwrite\n" in capsys.readouterr().err
    stopped = Stopped()
    stopped.of_teacher = True
    guarded(raising(stopped), resumes=True)
    assert capsys.readouterr().err.endswith("to continue, run the same command\n")


def test_a_broken_recipe_is_printed_as_it_says_itself(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("KDX_DEBUG", raising=False)
    path = tmp_path / "broken.yaml"
    path.write_text("data: {use: digit}\nstudent: {use: smallnet}\nepoch: 3\n")

    def main():
        load(path)

    with pytest.raises(RecipeError, match=r"broken\.yaml:1: data\.use: ") as broken:
        main()
    assert guarded(main) == 2
    said = capsys.readouterr().err
    assert said == f"{broken.value}\n"
    assert [line.split(": ")[:2] for line in said.splitlines()] == [
        [f"{path}:1", "data.use"], [f"{path}:3", "epoch"],
    ]  # fmt: skip


def test_the_traceback_is_shown_when_asked(capsys, monkeypatch):
    monkeypatch.setenv("KDX_DEBUG", "1")
    assert guarded(raising(ValueError("epochs: 0"))) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("error: epochs: 0\n")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("images/7.png: damaged"), 2, "[rank 1] error: images/7.png: damaged\n"),
        (CertificateError("runs/x: differs"), 1, "[rank 1] error: runs/x: differs\n"),
        (RecipeError([Problem("x.yaml:3", "epochs", "0 is too few")]), 2, ""),
    ],
)
def test_each_process_says_what_it_alone_may_see(error, code, said, capsys, monkeypatch):
    monkeypatch.delenv("KDX_DEBUG", raising=False)
    monkeypatch.setenv("RANK", "1")
    assert guarded(raising(error)) == code
    assert capsys.readouterr().err == said


def test_each_process_says_what_is_wrong_with_a_recipe_after_it_joined(capsys, monkeypatch):
    monkeypatch.delenv("KDX_DEBUG", raising=False)
    monkeypatch.setattr("kdx.launch.processes.joined", lambda: True)
    error = RecipeError([Problem("x.yaml:3", "data", "root: it is not there")])
    for rank, said in (("0", ""), ("1", "[rank 1] ")):
        monkeypatch.setenv("RANK", rank)
        assert guarded(raising(error)) == 2
        assert capsys.readouterr().err == f"{said}x.yaml:3: data: root: it is not there\n"


class Unreadable(data.Dataset):
    """Its images are damaged, which it finds out by another error."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        try:
            return int("a")
        except ValueError as error:
            raise ValueError(f"images/{index}.png: damaged\nconvert it") from error


def test_an_error_of_a_data_worker_is_what_it_said_there(capsys, monkeypatch):
    monkeypatch.delenv("KDX_DEBUG", raising=False)
    loader = data.DataLoader(Unreadable(), num_workers=1)
    assert guarded(lambda: print(list(loader))) == 2
    assert capsys.readouterr().err == "error: images/0.png: damaged\nconvert it\n"


def allocate():
    torch.empty(10**15)


@pytest.mark.parametrize(
    ("main", "said"),
    [
        (allocate, "out of memory: 4,000 TB more needed"),
        (
            raising(torch.OutOfMemoryError("CUDA out of memory. 2 GiB")),
            "OutOfMemoryError: CUDA out of memory. 2 GiB",
        ),
        (raising(MemoryError()), "out of memory"),
    ],
)
def test_out_of_memory(main, said, capsys, monkeypatch):
    monkeypatch.delenv("KDX_DEBUG", raising=False)
    assert guarded(main, has_batches=True) == 1
    assert capsys.readouterr().err == f"error: {said}; lower data.batch_size\n"
    assert guarded(main) == 1
    assert capsys.readouterr().err == f"error: {said}\n"


def test_mistakes_of_the_program_are_not_hidden():
    with pytest.raises(ZeroDivisionError, match="by zero"):
        guarded(lambda: print(1 / 0))


def test_the_options_of_every_tool():
    parser = argparse.ArgumentParser()
    add_common(parser)
    args = parser.parse_args([])
    assert (args.plugins, args.output_root) == ([], "runs")
    given = ["--plugin", "a", "--plugin", "b", "--output-root", "/tmp/x"]
    args = parser.parse_args(given)
    assert (args.plugins, args.output_root) == (["a", "b"], "/tmp/x")


def test_plugins_of_the_current_directory_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    allow([])
    assert str(tmp_path) not in sys.path
    (tmp_path / "a_plugin_here.py").write_text("__all__ = []\n")
    allow(["a_plugin_here"])
    allow(["a_plugin_here"])
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[-1] == str(tmp_path)
    import a_plugin_here  # pyright: ignore[reportMissingImports]

    assert a_plugin_here.__all__ == []


@pytest.mark.parametrize(("set_by_user", "spins"), [(None, "1000"), ("ACTIVE", "None")])
def test_threads_spin_shortly_unless_asked(set_by_user, spins):
    """OpenMP reads it when torch is imported, so every tool must import kdx first."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_W", "GOMP"))}
    environment |= {"OMP_WAIT_POLICY": set_by_user} if set_by_user else {}
    code = "import sys, kdx.commands.shared, os; "
    code += "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    printed = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert printed.split() == [spins, "False"]
