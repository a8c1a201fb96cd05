"""Runs in processes of their own: what these are told, why one failed, and when they start."""

import multiprocessing
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from kdx.recipe import load
from kdx_lab.executors import local, task
from kdx_lab.executors.local import Local
from kdx_lab.executors.task import RunProcess, Task, needed, task_of
from tests.unit.kdx_lab.study.made import cell


@pytest.fixture
def started(monkeypatch):
    """Return what processes are started with; none is, and all end with `code`."""
    calls = []

    def process(*, target, args, name):
        calls.append(SimpleNamespace(words=args[0], environment=args[2], name=name))

        def start():
            with open(args[1], "ab") as log:
                log.write(b"out\nerror: loss is nan\n of 3")

        return SimpleNamespace(start=start, exitcode=1, is_alive=lambda: False)

    context = SimpleNamespace(
        set_forkserver_preload=lambda names: None, Process=process, Pipe=multiprocessing.Pipe
    )
    monkeypatch.setattr(task, "get_context", lambda method: context)
    return calls


def test_a_process_gets_the_resolved_recipe_and_options(started, tmp_path):
    teacher = "{use: tests.toys.plain, allow_chance: true, memo: {views: 1, directory: /elsewhere}}"
    more = (f"teacher={teacher}", "losses=[{use: kd}]", "processes=2", "name=a/done/seed_0")
    made = task_of(cell(tmp_path, *more).recipe, tmp_path / "logs", threads=6)
    RunProcess(made)
    file, root = tmp_path / "logs/a--done--seed_0.yaml", tmp_path / "runs"
    assert started[0].words == [
        "distill", str(file), "--resume", 'teacher.memo.directory="/elsewhere"',
        "--plugin=tests.toys", f"--output-root={root}", "--processes=2",
    ]  # fmt: skip
    asked = cell(tmp_path, *more, "threads=3").recipe  # of two processes
    assert (
        load(file, [started[0].words[3]], plugins=["tests.toys"], output_root=root).plain()
        == asked.plain()
    )
    assert task_of(cell(tmp_path, "threads=5").recipe, tmp_path, threads=3).threads == 5


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, ""),
        (1, "loss is nan\n of 3"),
        (3, "its process was asked to stop"),
        (-9, "its process was killed by SIGKILL, usually because memory ran out"),
        (-15, "its process was killed by SIGTERM"),
    ],
)
def test_why_a_run_failed(started, tmp_path, code, reason):
    (tmp_path / "log.txt").write_text("error: an earlier one\n")
    run = RunProcess(Task("a", "", str(tmp_path), str(tmp_path / "log.txt")))
    run.process.exitcode = code
    assert run.reason() == reason


def test_a_failure_without_a_message_has_its_last_line(started, tmp_path):
    run = RunProcess(Task("a", "", str(tmp_path), str(tmp_path / "log.txt")))
    (tmp_path / "log.txt").write_text("Traceback:\nRuntimeError: a bug\n")
    run.process.exitcode = 1
    assert run.reason() == "its process ended with exit code 1: RuntimeError: a bug"


def test_a_process_that_ends_before_it_writes_a_log_has_failed(started, tmp_path):
    run = RunProcess(Task("a", "", str(tmp_path), str(tmp_path / "log.txt")))
    (tmp_path / "log.txt").unlink()
    run.process.exitcode = 255
    assert run.reason() == "its process ended with exit code 255: "


def test_a_run_stops_when_what_started_it_is_gone(monkeypatch):
    sent = []
    monkeypatch.setattr(task.os, "kill", lambda *call: sent.append(call))
    alive, other = multiprocessing.Pipe(duplex=False)
    other.close()
    task._stop_after(alive)
    assert sent == [(os.getpid(), signal.SIGTERM)]


class Fake:
    """A run that ends when it is told to."""

    def __init__(self, task, environment):
        self.task, self.environment, self.running = task, environment, True

    def stop(self):
        self.running = False

    def wait(self):
        assert not self.running

    def reason(self):
        return f"why {self.task.name}"


def test_jobs_run_at_a_time_and_gpus_are_shared(monkeypatch, tmp_path):
    monkeypatch.setattr(local, "RunProcess", Fake)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,9")
    executor = Local(2)
    executor.submit([Task(name, "", "", "", processes=n) for name, n in
                     (("a", 1), ("b", 1), ("c", 2), ("d", 1))])  # fmt: skip
    assert executor.poll() == {"a": False, "b": False}
    gpus = [run.environment["CUDA_VISIBLE_DEVICES"] for _, run in executor.runs.values()]
    assert gpus == ["5", "7"]
    executor.cancel("a")
    assert executor.poll() == {"a": True, "b": False, "c": False}
    assert executor.runs["c"][1].environment == {"CUDA_VISIBLE_DEVICES": "5,7"}
    assert executor.fetch("a") == "why a"
    executor.cancel()
    assert executor.poll() == {"b": True, "c": True}  # d was dropped


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 6)
    assert [Local(n).threads for n in (1, 2, 4, 8)] == [None, 3, 1, 1]


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(ValueError, match=r"^absent is not installed .*: pip install 'kdx\[ray\]'$"):
        needed("absent", "ray")
