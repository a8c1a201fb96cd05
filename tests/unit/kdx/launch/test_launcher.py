from types import SimpleNamespace

import psutil
import pytest

from kdx.launch.launcher import processes_asked

SCRIPT = ["tools/distill.py", "a.yaml", "--num_processes", "9"]
CONFIG = """\
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
mixed_precision: 'no'
num_machines: 1
num_processes: 3
use_cpu: true
"""


def hidden():
    raise psutil.AccessDenied


@pytest.fixture
def started_by(monkeypatch, tmp_path):
    """Return a function that lets this process have parents with these command lines."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    place = "accelerate.commands.config.config_args.default_config_file"
    monkeypatch.setattr(place, str(tmp_path / "default.yaml"))

    def started_by(*lines):
        parents = [
            SimpleNamespace(cmdline=hidden if line is None else lambda line=line: line)
            for line in lines
        ]
        monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(parents=lambda: parents))

    return started_by


@pytest.mark.parametrize(
    "launcher",
    [
        ["/usr/bin/python3", "/opt/venv/bin/accelerate", "launch"],
        ["/opt/venv/bin/accelerate-launch"],
        ["python", "-m", "accelerate.commands.launch"],
        ["python", "-m", "accelerate.commands.accelerate_cli", "launch"],
    ],
)
@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--cpu", "--num_processes", "2"], 2),
        (["--num-processes=4"], 4),
        (["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"], 2),
        (["--cpu"], None),
        ([], None),
    ],
)
def test_the_launchers_options(launcher, options, asked, started_by):
    started_by(None, ["bash", "train.sh"], [*launcher, *options, *SCRIPT], ["zsh"])
    assert processes_asked() == asked


def test_the_launchers_file(started_by, tmp_path):
    (tmp_path / "default.yaml").write_text(CONFIG)
    (tmp_path / "own.yaml").write_text(CONFIG.replace("num_processes: 3", "num_processes: 5"))
    for options, asked in (
        ([], 3),
        (["--num_processes", "2"], 2),
        (["--config_file", str(tmp_path / "own.yaml")], 5),
        (["--cpu"], None),  # then it does not read its default file
    ):
        started_by(["accelerate-launch", *options, *SCRIPT])
        assert processes_asked() == asked


def test_other_parents(started_by, monkeypatch):
    started_by(["torchrun", "--nproc_per_node", "2", *SCRIPT], ["bash"])
    assert processes_asked() is None
    started_by(["accelerate-launch", "--num_processes", "2", "other.py"])
    assert processes_asked() == 2
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    assert processes_asked() is None
