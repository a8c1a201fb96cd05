import io
import json

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdx.recipe import Component
from kdx.training.log import RunLog
from kdx.training.trackers import tensorboard
from kdx.training.tracking import Tracking

VALUES = {
    "learning_rate": 0.01,
    "loss/total": 3.4494,
    "loss/cross_entropy": 0.5381,
    "loss/kd": 3.773,
    "weighted/cross_entropy": 0.05381,
    "weighted/kd": 3.3957,
    "images_per_second": 1366.4,
    "seconds": 1.05,
    "test/top1": 0.91944,
    "test/top5": 0.99,
    "test/agreement": 0.75,
}


def opened(directory, console):
    """Return a log with TensorBoard, a recipe's default."""
    board = Component("tracker", "tensorboard", {}, tensorboard, "", "")
    tracking = Tracking(directory, [board], console, name="a/run", config={})
    return RunLog(directory, console, epochs=30, tracking=tracking)


def test_what_is_measured_at_the_end_is_in_the_last_line(log, tmp_path):
    for epoch in (1, 2):
        log.epoch(epoch, "train", VALUES)
    log.exported({})
    log.exported({"exported/recall/cat": 0.25})
    first, last = map(json.loads, log.lines().splitlines())
    assert last == {**first, "epoch": 2, "exported/recall/cat": 0.25}
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (point,) = board.Scalars("exported/recall/cat")
    assert (point.step, point.value) == (2, 0.25)


@pytest.fixture
def log(tmp_path, console):
    log = opened(tmp_path, console)
    yield log
    log.close()


def test_an_epoch_is_a_line_on_the_terminal(log, console):
    log.epoch(3, "train", VALUES)
    assert console.file.getvalue() == (
        " 3/30 train  loss 3.449 (cross_entropy 0.538, kd 3.773)"
        "  test 91.94%  agreement 75.00%  1,366 img/s\n"
    )


def test_diagnosed_gradients_are_a_second_line(log, console):
    found = {
        "gradient/cross_entropy": 2.8357, "gradient/kd": 10.2066, "cosine/kd": -0.4692,
        "suggested/kd": 0.28, "gradient/sp": 0.00226, "cosine/sp": 0.036, "suggested/sp": 1300.0,
        "gradient/still": 0.0,
    }  # fmt: skip
    log.epoch(3, "train", VALUES | found)
    _, line = console.file.getvalue().splitlines()
    assert line == (
        "      gradients  cross_entropy 2.84, kd 10.2 (cosine -0.47, suggested 0.28), "
        "sp 0.00226 (cosine 0.04, suggested 1300), still 0"
    )


def test_a_single_loss_is_not_broken_down(log, console):
    shown = {"loss/total": 1.0, "loss/cross_entropy": 1.0, "images_per_second": 10.0}
    log.epoch(12, "train", shown)
    assert console.file.getvalue() == "12/30 train  loss 1.000  10 img/s\n"


def test_an_epoch_is_a_line_of_json_and_points_in_tensorboard(log, tmp_path):
    log.epoch(1, "train", VALUES)
    log.epoch(2, "train", VALUES | {"loss/kd": 3.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"epoch": 1, "stage": "train", **VALUES},
        {"epoch": 2, "stage": "train", **VALUES, "loss/kd": 3.0},
    ]
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == set(VALUES)
    points = [(event.step, event.value) for event in board.Scalars("loss/kd")]
    assert points == [(1, pytest.approx(3.773)), (2, 3.0)]


def test_a_log_goes_on_from_earlier_lines(log, tmp_path):
    log.epoch(1, "train", VALUES)
    log.epoch(2, "train", VALUES)
    kept = log.lines()
    log.epoch(3, "train", VALUES)
    log.close()
    again = opened(tmp_path, log.console)
    assert again.lines() == ""
    again.resume(kept)
    again.epoch(3, "train", VALUES | {"loss/kd": 2.0})
    again.close()
    lines = [json.loads(line) for line in again.lines().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["loss/kd"] for line in lines] == [3.773, 3.773, 2.0]
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    points = [(event.step, event.value) for event in board.Scalars("loss/kd")]
    assert points == [(1, pytest.approx(3.773)), (2, pytest.approx(3.773)), (3, 2.0)]


def test_processes_other_than_the_main_one_write_nothing(tmp_path, console):
    log = RunLog(tmp_path, console, epochs=1, main=False)
    log.epoch(1, "train", VALUES)
    log.resume("")
    with log.progress("train", 1, 2) as show:
        show(1, {"kd": 1.0}, 1)
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert console.file.getvalue() == ""


def test_progress_is_shown_on_a_terminal(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    log = RunLog(tmp_path, console, epochs=30)
    with log.progress("linear", 3, 8) as show:
        show(8, {"kd": 2.5, "hint": 1.0}, 2)
    log.close()
    written = console.file.getvalue()
    assert "linear 3/30" in written
    assert "8/8" in written
    assert "kd 1.250  hint 0.500" in written


def test_names_are_shown_as_they_are_written(log, console):
    log.epoch(1, "[/kd]", {"loss/total": 1.0, "images_per_second": 10.0})
    assert "1/30 [/kd]  loss 1.000" in console.file.getvalue()
