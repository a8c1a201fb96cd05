"""Studies on a Ray cluster that loses a machine, on submitit, and from one executor to another.

Each gives the table of `--on local`, to the bit.
"""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from kdx.util.errors import Stopped
from kdx_lab.executors.local import Local
from kdx_lab.executors.ray import Ray
from kdx_lab.executors.slurm import Slurm
from kdx_lab.study.conduct import conduct
from kdx_lab.study.grid import open_study
from tests.faults.test_studies import untimed

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
RUNS = int(os.environ.get("KDX_RUNS", "12"))
BASE = """\
data: {use: digits, limit: 128, batch_size: 16}
student: {use: tests.toys.plain}
losses: [{use: tests.toys.Slow, name: slow, seconds: 0.02}, {use: kd}]
teacher: {use: tests.toys.plain, recipe: teacher.yaml, weights: runs/t, allow_chance: true}
optimizer: {use: SGD, lr: 0.05}
epochs: 10
threads: 1
"""
TEACHER = """\
data: {use: digits, limit: 128, batch_size: 16}
student: {use: tests.toys.plain}
epochs: 2
threads: 1
name: t
"""
STUDY = """\
recipe: base.yaml
arms:
  compact: {arm: compact+kd}
  slower: {arm: compact+kd, overrides: {optimizer.lr: 0.01}}
  faster: {arm: compact+kd, overrides: {optimizer.lr: 0.1}}
  long: {arm: compact+kd, overrides: {epochs: 20}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    for name, text in (("base", BASE), ("teacher", TEACHER), ("study", STUDY)):
        (place / f"{name}.yaml").write_text(text)
    return place


def study(place, root, seeds=RUNS // 4):
    options = {"plugins": ["tests"], "output_root": place / root}
    words = [f"seeds={list(range(seeds))}", "name=study"]
    return open_study(place / "study.yaml", words, **options)


def run(grid, executor) -> tuple[list, dict[str, bytes]]:
    """Conduct a study; return its rows without times, and its students."""
    printed = io.StringIO()
    conduct(grid, Console(file=printed, width=150), executor)
    print(printed.getvalue())
    rows = json.loads((grid.directory / "results.json").read_text())["rows"]
    students = {
        str(cell): (cell.run_dir / "student.safetensors").read_bytes() for cell in grid.cells
    }
    return untimed(rows), students


@pytest.fixture(scope="module")
def local(place):
    return run(study(place, "local"), Local(2))


@pytest.fixture
def cluster(monkeypatch):
    """Return a Ray cluster of three machines with a core each, this process on the first."""
    ray = pytest.importorskip("ray", reason="needs pip install 'kdx[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.last = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.filterwarnings("default")
def test_a_machine_that_dies_changes_nothing(place, local, cluster):
    grid = study(place, "ray")

    def kill():
        while sum((cell.run_dir / "summary.json").exists() for cell in grid.cells) < 3:
            time.sleep(0.1)
        cluster.remove_node(cluster.last, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    executor = Ray(cluster.address)
    assert run(grid, executor) == local
    killer.join()
    print("attempts", executor.attempts)


@pytest.mark.filterwarnings("default")
def test_what_was_begun_here_ends_on_ray(place, local, cluster):
    grid, process = study(place, "moved"), start(place, "moved")
    wait_for(grid.cells[0].run_dir / "checkpoints/epoch_0002", process)
    process.kill()
    process.wait()
    time.sleep(5)  # its runs notice
    assert run(grid, Ray(cluster.address)) == local


@pytest.mark.filterwarnings("default")
def test_what_was_begun_on_ray_ends_here(place, local, cluster):
    grid = study(place, "back")

    def stop():
        with suppress(FileNotFoundError):
            while sum((cell.run_dir / "summary.json").exists() for cell in grid.cells) < 2:
                time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Stopped):
        run(grid, Ray(cluster.address))
    assert any(list(cell.run_dir.glob("checkpoints/epoch_*")) for cell in grid.cells)
    assert run(grid, Local(2)) == local


@pytest.mark.filterwarnings("default")
def test_submitit_gives_the_same(place, local):
    pytest.importorskip("submitit", reason="needs pip install 'kdx[slurm]'")
    grid = study(place, "slurm", seeds=1)
    executor = Slurm(grid.directory / "logs", {"cluster": "local", "time": "30"})
    _, students = run(grid, executor)
    assert students == {name: local[1][name] for name in students}


def start(place, root):
    words = ["study", "study.yaml", f"seeds={list(range(RUNS // 4))}", "name=study", "--jobs=2",
             "--plugin=tests", f"--output-root={root}"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "kdx", *words], cwd=place, env=environment)


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)
