"""The real trackers: MLflow in a local store, W&B offline, TensorBoard read back."""

import json
import struct
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from accelerate import PartialState
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdx.recipe import Component, RecipeError
from kdx.run.run import run
from kdx.training.trackers import TABLE
from kdx.training.tracking import Tracking
from kdx.util.errors import Stopped
from tests.faults.resuming import TIMES, differences, stop_after
from tests.unit.conftest import loaded, silent

THREE = ("epochs=3", "checkpoint_every=3", "threads=1")


def needs(package):
    absent = find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"{package} is not installed: kdx[{package}]")


@pytest.fixture(scope="module")
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
def store(tmp_path, monkeypatch):
    """Return a client of MLflow whose store is a folder; mlflow-skinny needs nothing else."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient, set_tracking_uri

    set_tracking_uri(f"file://{tmp_path}/store")
    yield MlflowClient()
    set_tracking_uri("")


@needs("mlflow")
def test_a_resumed_run_is_one_run_of_mlflow(broken_run, store, plain, tmp_path):
    run_dir = broken_run("tensorboard", "{use: mlflow, project: digits, tags: {who: tests}}")
    assert differences(plain, run_dir) == []
    experiment = store.get_experiment_by_name("digits")
    (found,) = store.search_runs([experiment.experiment_id])
    assert json.loads((run_dir / "trackers.json").read_text()) == {
        "mlflow": {"run": found.info.run_id, "epoch": 3}
    }
    assert (found.info.run_name, found.info.status) == ("digits/plain", "FINISHED")
    assert found.data.tags["who"] == "tests"
    given = found.data.params
    assert (given["data.use"], given["epochs"], given["clip"]) == ("digits", "3", "None")
    points = points_of(run_dir)
    logged = {
        name: [(m.step, m.value) for m in store.get_metric_history(found.info.run_id, name)]
        for name in points
    }
    assert logged == points
    assert of_board(run_dir) == close(points)
    report = Path(store.download_artifacts(found.info.run_id, "report.md", str(tmp_path)))
    assert report.read_bytes() == (run_dir / "report.md").read_bytes()


@needs("mlflow")
def test_a_tracker_that_a_resume_adds_has_all_epochs(broken_run, store):
    run_dir = broken_run("tensorboard", then="mlflow")
    (found,) = store.search_runs([store.get_experiment_by_name("kdx").experiment_id])
    history = store.get_metric_history(found.info.run_id, "loss/total")
    assert [(m.step, m.value) for m in history] == points_of(run_dir)["loss/total"]
    assert not (run_dir / "tensorboard").exists()


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


@needs("mlflow")
def test_mlflow_gets_report_and_pictures(handed_over, store, tmp_path):
    (record,) = handed_over("mlflow").values()
    assert record.run
    assert [each.path for each in store.list_artifacts(record.run)] == ["pictures", "report.md"]
    (picture,) = store.list_artifacts(record.run, "pictures")
    with Image.open(store.download_artifacts(record.run, picture.path, str(tmp_path))) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)


@needs("mlflow")
def test_an_mlflow_that_goes_away_does_not_end_the_run(tmp_path, store, plain, monkeypatch):
    """The server is down from epoch 2 on, and back at the end."""
    import mlflow

    console, log, asked = silent(), mlflow.log_metrics, []

    def down(metrics, step, **more):
        asked.append(step)
        if asked == [1, 2]:
            raise mlflow.MlflowException("API request to http://mlflow failed")
        log(metrics, step=step, **more)

    monkeypatch.setattr(mlflow, "log_metrics", down)
    run_dir = run(loaded(tmp_path, *THREE, "trackers=[mlflow]"), console)
    assert console.file.getvalue().count("note     mlflow failed; ") == 1
    assert differences(plain, run_dir) == []
    assert asked == [1, 2, 2, 3]
    (found,) = store.search_runs([store.get_experiment_by_name("kdx").experiment_id])
    assert [m.step for m in store.get_metric_history(found.info.run_id, "test/top1")] == [1, 2, 3]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Return W&B's section in a recipe; it writes below the test's folder."""
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WANDB_SILENT", "true")
    return f"{{use: wandb, project: digits, mode: offline, dir: {tmp_path}}}"


def records(path):
    """Yield the records in a file: LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    raw, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(raw):
        if -at % 2**15 < 7:  # a block's end
            at += -at % 2**15
        _, size, kind = struct.unpack_from("<IHB", raw, at)
        whole, at = whole + raw[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # whole, or a last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def ended(path):
    """Return the records of an offline run when W&B's own process has written the last one."""
    for _ in range(200):
        found = list(records(path))
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} does not end")


def of_wandb(path):
    """Return the id, the configuration, the steps and the files of an offline run."""
    ids, config, steps, files = set(), {}, [], set()
    for record in ended(path):
        ids |= {record.run.run_id} - {""}
        config |= {each.key: json.loads(each.value_json) for each in record.config.update}
        files |= {each.path for each in record.files.files}
        if items := record.history.item:
            values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
            steps.append((record.history.step.num, values))
    return *ids, config, steps, files


@needs("wandb")
def test_a_resumed_run_is_one_run_of_wandb(broken_run, offline, plain, tmp_path):
    run_dir = broken_run(offline)
    assert differences(plain, run_dir) == []
    parts = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime)
    (first, config, early, _), (again, _, late, files) = map(of_wandb, parts)
    assert json.loads((run_dir / "trackers.json").read_text()) == {
        "wandb": {"run": first, "epoch": 3}
    }
    assert first == again
    assert (config["data.use"], config["epochs"], config["clip"]) == ("digits", 3, None)
    assert [step for step, _ in early + late] == [1, 2, 3]
    for name, points in points_of(run_dir).items():
        assert [(s, values[name]) for s, values in early + late if name in values] == points
    assert "report.md" in files


@needs("wandb")
@needs("mlflow")
def test_an_mlflow_that_refuses_leaves_no_run_of_wandb(tmp_path, offline, store):
    """Also the MLflow run that a resume continues has to be there."""
    store.delete_experiment(store.create_experiment("gone"))
    parts = {
        "wandb": {"mode": "offline", "dir": str(tmp_path)}, "mlflow": {"project": "gone"}
    }  # fmt: skip
    given = [
        Component("tracker", use, each, TABLE[use], "a.yaml:3", f"trackers.{use}")
        for use, each in parts.items()
    ]
    with pytest.raises(RecipeError, match=r"'mlflow': the tracker .*: the experiment 'gone' was"):
        Tracking(tmp_path, given, silent(), name="a", config={})
    (tmp_path / "trackers.json").write_text('{"mlflow": {"run": "0123", "epoch": 1}}')
    parts["mlflow"]["project"] = "digits"
    with pytest.raises(RecipeError, match=r"'mlflow': the tracker does not start: .*0123"):
        Tracking(tmp_path, given, silent(), name="a", config={}, resumed=True)
    assert not (tmp_path / "wandb").exists()


@needs("wandb")
def test_wandb_gets_report_and_pictures(handed_over, offline, tmp_path):
    handed_over(offline)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    _, config, [(step, values)], files = of_wandb(path)
    assert (step, values["loss/total"], config["seed"]) == (1, 2.0, 1)
    (name,) = values["pictures/filenames"]
    assert {name, "report.md"} <= files
    with Image.open(path.parent / "files" / name) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)


@needs("trackio")
def test_trackio_continues_its_run(broken_run, plain, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read when it is first imported
    from trackio.sqlite_storage import SQLiteStorage

    run_dir = broken_run("{use: trackio, project: digits, auto_log_cpu: false}")
    assert differences(plain, run_dir) == []
    assert SQLiteStorage.get_runs("digits") == ["digits/plain"]
    logs = SQLiteStorage.get_logs("digits", "digits/plain")
    found = [(log["step"], log["loss/total"]) for log in logs if "loss/total" in log]
    assert found == points_of(run_dir)["loss/total"]
    (report,) = [log["report"] for log in logs if "report" in log]
    assert (run_dir / "report.md").read_text() in report.values()


def test_tensorboard_has_each_epoch_once(broken_run):
    run_dir = broken_run("{use: tensorboard, flush_secs: 5, filename_suffix: .mine}")
    assert of_board(run_dir) == close(points_of(run_dir))
    (events,) = (run_dir / "tensorboard").iterdir()
    assert events.name.endswith(".mine")
    assert not (run_dir / "trackers.json").exists()
