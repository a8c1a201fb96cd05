"""Systems without POSIX, and locales without UTF-8."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = """\
data: {use: digits, limit: 64, batch_size: 32}
student: {use: smallnet}
epochs: 1
name: r
"""
WITHOUT_POSIX = """\
import os, select, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
import torch  # uses what it likes
import torch.utils.data, accelerate, multiprocessing.util
for module, names in (
    (os, "fork getppid getuid geteuid kill pread pwrite preadv sched_getaffinity setsid sysconf"),
    (signal, "SIGHUP SIGUSR1 SIGUSR2 SIGKILL pthread_sigmask sigwaitinfo siginterrupt alarm"),
    (select, "epoll poll"),
):
    for name in names.split():
        if name not in ("getppid", "kill") and hasattr(module, name):
            delattr(module, name)
import importlib, pkgutil
RUNTIMES = tuple(f"kdx.exporting.{name}" for name in ("executorch", "litert", "openvino", "onnx"))
for package in ("kdx", "kdx_lab", "expand", "teachers"):
    found = importlib.import_module(package)
    for each in pkgutil.walk_packages(found.__path__, f"{package}."):
        if each.name == "kdx.__main__" or each.name.endswith(RUNTIMES):  # which use what they like
            continue
        importlib.import_module(each.name)
from kdx.commands.main import main
assert main(["dry-run", "r.yaml"]) == 0
assert main(["distill", "r.yaml"]) == 0
assert main(["evaluate", "runs/r"]) == 0
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that runs Python in a folder with a recipe, with an environment."""

    def start(*words: str | bytes, at: Path = tmp_path, **environment: str):
        at.mkdir(exist_ok=True)
        (at / "r.yaml").write_text(RECIPE, encoding="utf-8")
        return subprocess.run(
            [sys.executable, *words],
            cwd=at,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            check=False,
        )

    return start


def test_modules_a_dry_run_and_a_run_need_no_posix(start, tmp_path):
    done = start("-c", WITHOUT_POSIX)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "runs" / "r" / "student.safetensors").is_file()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_in_another_encoding_ends_no_run(start, tmp_path, encoding):
    at = tmp_path / "Δ ±"
    words = ("-m", "kdx", "distill", "r.yaml", "--output-root", str(at))
    done = start(*words, at=at, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr.decode()
    assert rb"\u0394 " in done.stdout
    assert (at / "r" / "summary.json").is_file()


@pytest.mark.parametrize("where", ["cwd", "root", "recipe", "fork"])
def test_a_name_that_the_locale_cannot_decode_is_refused_at_the_start(start, tmp_path, where):
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    place.mkdir()
    (place / "r.yaml").write_text(RECIPE, encoding="utf-8")
    bad = os.fsencode(place)
    words = {
        "cwd": ["r.yaml"],
        "root": ["r.yaml", b"--output-root=" + bad],
        "recipe": [bad + b"/r.yaml"],
        "fork": ["r.yaml", "name=x", b"--fork=" + bad],
    }[where]
    at = place if where == "cwd" else tmp_path
    for environment in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = start("-m", "kdx", "distill", *words, at=at, **environment)
        assert done.returncode == 2, done.stderr.decode()
        assert rb"caf\udce9" in done.stderr
        assert b"not UTF-8 in this locale: rename it, or set LC_ALL=C.UTF-8" in done.stderr
        assert [path.name for path in at.iterdir() if path.name in ("runs", "r")] == []
        assert os.listdir(place) == ["r.yaml"]
