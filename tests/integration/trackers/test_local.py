"""Trackers that write to the disk alone: trackio, and TensorBoard read back."""

from tests.faults.resuming import differences
from tests.integration.trackers.conftest import close, needs, of_board, points_of


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
