"""MLflow in a local store."""

import json
from pathlib import Path

from PIL import Image

from kdx.run.run import run
from tests.faults.resuming import differences
from tests.integration.trackers.conftest import THREE, close, needs, of_board, points_of
from tests.unit.conftest import loaded, silent


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
