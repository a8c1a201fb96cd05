"""A run that trackers follow, interrupted and resumed."""

import json
from importlib.util import find_spec

import pytest
from accelerate import PartialState
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdx.run.run import run
from kdx.training.tracking import Tracking
from kdx.util.errors import Stopped
from tests.faults.resuming import TIMES, stop_after
from tests.unit.conftest import loaded, silent

THREE = ("epochs=3", "checkpoint_every=3", "threads=1")


def needs(package):
    absent = find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"{package} is not installed: kdx[{package}]")


@pytest.fixture(scope="package")
def plain(tmp_path_factory):
    """Return the directory of a run without trackers that was never stopped."""
    return run(loaded(tmp_path_factory.mktemp("plain"), *THREE, "trackers=[]"), silent())


@pytest.fixture
def broken_run(tmp_path, monkeypatch):
    """Return a function: run with trackers, stopped after nine of twelve steps and resumed."""

    def train(*trackers, then=None):
        given = ", ".join(trackers)
        with stop_after(9, monkeypatch), pytest.raises(Stopped):
            run(loaded(tmp_path, *THREE, f"trackers=[{given}]"), Console(quiet=True))
        again = given if then is None else then
        recipe = loaded(tmp_path, *THREE, f"trackers=[{again}]")
        return run(recipe, Console(quiet=True), resume=True)

    return train


def points_of(run_dir):
    """Return [(epoch, value), ...] of each metric in metrics.jsonl that does not measure time."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line} - {"epoch", "stage", *TIMES}
    return {n: [(line["epoch"], line[n]) for line in lines if n in line] for n in names}


def of_board(run_dir):
    board = EventAccumulator(str(run_dir / "tensorboard"))
    board.Reload()
    return {
        name: [(point.step, point.value) for point in board.Scalars(name)]
        for name in set(board.Tags()["scalars"]) - TIMES
    }


def close(found):
    """As float32, which TensorBoard stores."""
    return {
        name: [(epoch, pytest.approx(value, rel=1e-6)) for epoch, value in points]
        for name, points in found.items()
    }


@pytest.fixture
def handed_over(tmp_path):
    """Return a function that hands a report and a picture over to a tracker."""
    PartialState()  # as in a run
    run_dir = tmp_path / "run"
    (run_dir / "pictures").mkdir(parents=True)
    (run_dir / "report.md").write_text("# A report")
    Image.new("RGB", (3, 2), (255, 0, 0)).save(run_dir / "pictures" / "000001.png")

    def hand_over(tracker):
        parts = loaded(tmp_path, f"trackers=[{tracker}]").trackers
        tracking = Tracking(run_dir, parts, silent(), name="a/run", config={"seed": 1})
        tracking.finish([(1, {"loss/total": 2.0})], run_dir / "report.md")
        tracking.close()
        assert not tracking.noted, tracking.console.file.getvalue()
        return tracking.records

    return hand_over


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Return a client of MLflow whose store is a folder; mlflow-skinny needs nothing else."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient, set_tracking_uri

    set_tracking_uri(f"file://{tmp_path}/store")
    yield MlflowClient()
    set_tracking_uri("")
