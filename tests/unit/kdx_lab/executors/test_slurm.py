"""The executor on Slurm: its options and its script; its jobs against submitit's local ones."""

import json
import re
import signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdx_lab.executors import slurm
from kdx_lab.executors.artifacts import digest
from kdx_lab.executors.slurm import Requeued, Slurm, minutes, script
from kdx_lab.executors.task import Task

submitit = pytest.importorskip("submitit", reason="needs pip install 'kdx[slurm]'")


@pytest.mark.parametrize(
    ("time", "expected"),
    [("90", 90), ("1:30", 2), ("2:30:00", 150), ("1-12", 2160), ("1-12:30", 2190),
     ("1-00:00:01", 1441), ("0:01", 1)],
)  # fmt: skip
def test_times_are_those_of_sbatch(time, expected):
    assert minutes(time) == expected


def test_what_is_no_time_is_refused():
    with pytest.raises(ValueError, match=r"^--slurm.time=soon: not minutes, hours"):
        minutes("soon")
    with pytest.raises(ValueError, match=r"^--slurm.time=0:00: a run needs a limit"):
        minutes("0:00")


def test_the_script_is_an_array_that_is_signalled_before_its_end(tmp_path):
    options = {"partition": "gpu", "time": "2:00:00", "array_parallelism": "8",
               "gpus_per_node": "1", "additional_parameters": '{"licenses": "x"}'}  # fmt: skip
    lines = script(tmp_path / "a b", options, 24).splitlines()
    for line in ("--array=0-23%8", "--partition=gpu", "--time=120", "--gpus-per-node=1",
                 "--signal=USR2@90", "--licenses=x", "--open-mode=append"):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    assert lines[-1].endswith(f"-u -m submitit.core._submit '{tmp_path}/a b/slurm'")
    assert not (tmp_path / "a b").exists()


def test_options_are_what_submitit_says_that_they_are(tmp_path):
    options = {"setup": "module load cuda", "srun_args": "--mpi=none -l", "account": "1e5",
               "exclusive": "true", "mem": "8"}  # fmt: skip
    lines = script(tmp_path, options, 300).splitlines()
    for line in ("--array=0-299%300", "--account=1e5", "--exclusive", "--mem=8"):
        assert f"#SBATCH {line}" in lines
    assert "module load cuda" in lines
    assert " --mpi=none -l " in lines[-1]
    assert "a\nb" in script(tmp_path, {"setup": '["a", "b"]'}, 1)
    assert "[ -f x ] && . x" in script(tmp_path, {"setup": "[ -f x ] && . x"}, 1)
    lines = script(tmp_path, {"gpus_per_node": "a100:2", "nodes": "1-2"}, 1).splitlines()
    assert {"#SBATCH --gpus-per-node=a100:2", "#SBATCH --nodes=1-2"} <= set(lines)


@pytest.mark.parametrize(
    ("key", "text"),
    [("array_parallelism", "many"), ("additional_parameters", "[1]"), ("cpus_per_task", "1.5"),
     ("srun_args", "'a"), ("use_srun", "maybe")],
)  # fmt: skip
def test_options_of_other_types_are_refused(tmp_path, key, text):
    with pytest.raises(ValueError, match=rf"^--slurm.{key}={re.escape(text)}: not "):
        script(tmp_path, {key: text}, 1)


def test_an_unknown_option_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^--slurm.patition: not an option of submitit; sbatch's"):
        script(tmp_path, {"patition": "gpu"}, 1)
    with pytest.raises(ValueError, match=r"^--slurm.cluster=foo: use one of slurm, local, debug"):
        script(tmp_path, {"cluster": "foo"}, 1)


def test_a_name_of_jobs_replaces_ours(tmp_path):
    assert "#SBATCH --job-name=kdx" in script(tmp_path, {}, 1).splitlines()
    assert "#SBATCH --job-name=7" in script(tmp_path, {"job_name": "7"}, 1).splitlines()
    executor = Slurm(tmp_path, {"cluster": "local", "job_name": "7"}).executor
    assert executor.parameters["name"] == "7"


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"^--on slurm: Could not detect .srun."):
        Slurm(tmp_path, {})


class Job:
    """A job of a false array."""

    job_id = "7_1"

    def __init__(self, task):
        self.task, self.state, self.outcome, self.cancelled = task, "PENDING", None, False
        self.paths = SimpleNamespace(result_pickle=Path("none"))

    def done(self):
        return self.outcome is not None

    def result(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def cancel(self, check):
        self.cancelled, self.outcome = True, "stopped"


def test_jobs_begin_end_and_are_cancelled(tmp_path, monkeypatch):
    executor = Slurm(tmp_path, {"cluster": "local", "time": "5"})
    given = {}
    false = SimpleNamespace(
        batch=nullcontext, submit=lambda f, task: Job(task), update_parameters=given.update
    )
    monkeypatch.setattr(executor, "executor", false)
    executor.submit([Task(name, "", "", "") for name in "abc"])
    assert executor.poll() == {}
    assert given["slurm_array_parallelism"] == 3
    jobs = executor.jobs
    jobs["a"].state, jobs["b"].outcome = "RUNNING", "loss is nan"
    jobs["c"].state, jobs["c"].outcome = "SUSPENDED", "submitit takes this for an end"
    assert executor.poll() == {"a": False, "b": True, "c": False}
    assert executor.fetch("b") == "loss is nan"
    jobs["c"].outcome = RuntimeError("Job not requeued\nbecause: timed-out too many times.")
    assert executor.fetch("c") == "Slurm job 7_1: because: timed-out too many times."
    executor.jobs["d"] = Job(None)
    executor.jobs["d"].outcome = AssertionError()
    assert executor.fetch("d") == "Slurm job 7_1: AssertionError"
    executor.cancel()
    assert jobs["a"].cancelled


def test_jobs_of_a_process_that_was_killed_are_not_submitted_again(tmp_path, monkeypatch):
    states = {"7_0": "RUNNING", "7_1": "COMPLETED", "7_2": "UNKNOWN",  # sacct forgets
              "7_5": "RUNNING"}  # fmt: skip

    class Known(Job):
        def __init__(self, folder, job_id):
            super().__init__(None)
            self.job_id, self.state = job_id, states[job_id]
            self.outcome = "" if self.state == "COMPLETED" else None

    monkeypatch.setattr("submitit.slurm.slurm.SlurmJob", Known)
    executor, submitted = Slurm(tmp_path, {"cluster": "local"}), []
    false = SimpleNamespace(
        batch=nullcontext, submit=lambda f, task: submitted.append(task.name) or Job(task),
        update_parameters=lambda **_: None,
    )  # fmt: skip
    monkeypatch.setattr(executor, "executor", false)
    executor.cluster = "slurm"
    file = tmp_path / "slurm/jobs.json"
    same = digest(b"epochs: 1")
    known = {"a": "7_0", "b": "7_1", "c": "7_2", "e": "7_5"}
    file.write_text(json.dumps({name: [number, same] for name, number in known.items()}))
    executor.submit([Task(name, "epochs: 1", "", "") for name in "abcd"])
    assert submitted == ["b", "c", "d"]
    assert executor.poll() == {"a": False}
    kept = {name: number for name, (number, _) in json.loads(file.read_text()).items()}
    assert kept == {"a": "7_0", "b": "7_1", "c": "7_1", "d": "7_1", "e": "7_5"}
    executor.jobs["a"].outcome = ""
    assert executor.fetch("a") == ""
    assert set(json.loads(file.read_text())) == set("bcde")
    with pytest.raises(ValueError, match=r"job 7_5 still trains e by another recipe: wait for it"):
        executor.submit([Task("e", "epochs: 2", "", "")])
    file.write_text('{"a": 7}')
    with pytest.raises(ValueError, match=r"jobs.json: damaged: cancel the study's jobs \(squeue"):
        executor.submit([Task("f", "", "", "")])


def test_what_sbatch_refuses_is_told(tmp_path, monkeypatch):
    def submit(function, task):
        raise RuntimeError("command failed\nsbatch: error: invalid partition specified: gpuu\n")

    executor = Slurm(tmp_path, {"cluster": "local"})
    monkeypatch.setattr(
        executor,
        "executor",
        SimpleNamespace(batch=nullcontext, submit=submit, update_parameters=lambda **_: None),
    )
    with pytest.raises(ValueError, match=r"^--on slurm: not submitted: sbatch: error: invalid par"):
        executor.submit([Task("a", "", "", "")])


def test_jobs_whose_end_is_never_told_are_not_waited_for(tmp_path, monkeypatch):
    class Lost(Job):
        def cancel(self, check):
            self.cancelled = True

    executor = Slurm(tmp_path, {"cluster": "local"})
    executor.jobs["a"] = job = Lost(None)
    monkeypatch.setattr(slurm, "PATIENCE", 0.0)
    executor.cancel()
    assert job.cancelled


class Stoppable:
    def __init__(self, task):
        self.calls, self.ignored = [], signal.getsignal(signal.SIGUSR2)

    def stop(self):
        self.calls.append("stop")

    def wait(self):
        self.calls.append("wait")

    def reason(self):
        return "why"


def test_a_job_that_is_preempted_stops_its_run_and_is_submitted_again(monkeypatch):
    monkeypatch.setattr(slurm, "RunProcess", Stoppable)
    job, task, before = Requeued(), Task("a", "", "", ""), signal.getsignal(signal.SIGUSR2)
    assert job(task) == "why"
    assert job.run.ignored == signal.SIG_IGN
    assert signal.getsignal(signal.SIGUSR2) == before
    again = job.checkpoint(task)
    assert job.run.calls == ["wait", "stop", "wait"]
    assert isinstance(again.function, Requeued)
    assert again.function.run is None
    assert again.args == (task,)
