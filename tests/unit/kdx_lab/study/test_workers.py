"""The processes of a study's runs: what they are started with, and why a run failed."""

import os
import signal
import sys

import pytest
import torch

from kdx.recipe import load
from kdx.util.errors import Stopped
from kdx_lab.study.workers import run_in_processes
from tests.unit.kdx_lab.study.made import cell

SCRIPT = """\
#!/bin/sh
echo "started: $KDX_PARENT $CUDA_VISIBLE_DEVICES $@"
case "$5" in
*fails*) echo "error: loss is nan"; echo "  of 3 terms"; exit 1;;
*bug*) echo "Traceback:"; echo "RuntimeError: a bug"; exit 1;;
*quiet*) exit 7;;
*asked*) exit 3;;
*killed*) kill -KILL $$;;
*long*) exec sleep 60;;
esac
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function: arms, by which a false Python ends, to how their runs ended and logs."""
    script = tmp_path / "python"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))

    def run(*arms: str, jobs: int = 2, begun=lambda cell: None, recipe=()):
        logs = tmp_path / "logs"
        cells = [cell(tmp_path, f"name=a/{arm}/seed_0", *recipe, arm=arm) for arm in arms]
        found = {}
        for each in run_in_processes(cells, logs, jobs=jobs, begun=begun):
            log = logs / f"a--{each.cell.arm}--seed_0.txt"
            found[each.cell.arm] = each.reason.removesuffix(f" (log: {log})"), log.read_text()
        return found

    return run


def test_why_a_run_failed(run):
    found = run("done", "fails", "bug", "quiet", "asked", "killed")
    assert {arm: reason for arm, (reason, _) in found.items()} == {
        "done": "",
        "fails": "loss is nan\n  of 3 terms",
        "bug": "its process ended with exit code 1: RuntimeError: a bug",
        "quiet": f"its process ended with exit code 7: {found['quiet'][1].strip()}",
        "asked": "its process was asked to stop",
        "killed": "its process was killed by SIGKILL, usually because memory ran out",
    }


def test_a_process_gets_the_resolved_recipe_and_its_share_of_the_cores(run, tmp_path, monkeypatch):
    monkeypatch.setattr("kdx_lab.study.workers.cores", lambda: 6)
    ((_, log),) = run("done", jobs=3).values()
    file = tmp_path / "logs/a--done--seed_0.yaml"
    root = f"--output-root={tmp_path / 'runs'}"
    words = f"-P -m kdx distill {file} --resume --plugin=tests.toys {root}"
    assert log == f"started: {os.getpid()}  {words}\n"
    asked = cell(tmp_path, "name=a/done/seed_0", "threads=2").recipe
    assert load(file, output_root=tmp_path / "runs").plain() == asked.plain()
    run("done", recipe=["threads=5"])
    assert "threads: 5\n" in file.read_text()


def test_a_memo_outside_the_output_root_stays_allowed(run):
    teacher = "{use: tests.toys.plain, allow_chance: true, memo: {views: 1, directory: /elsewhere}}"
    ((_, log),) = run("done", recipe=[f"teacher={teacher}", "losses=[{use: kd}]"]).values()
    assert '--resume teacher.memo.directory="/elsewhere" --plugin' in log


def test_gpus_are_shared(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    found = run("a", "b", jobs=2)
    assert [log.split()[2] for _, log in found.values()] == ["5", "7"]


def test_a_signal_stops_the_processes(run):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        run("long", "longer", begun=lambda cell: signal.raise_signal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) == before
