import json
from dataclasses import replace

import pytest

from kdx.report.summary import Summary, read_summary, write_summary

SUMMARY = Summary(
    name="digits/kd",
    evaluated_on="validation",
    exported_epoch=2,
    last={"top1": 0.5, "top5": 0.9},
    best={"top1": 0.625, "top5": 0.95},
    best_epoch=2,
    test={"top1": 0.59375, "top5": 0.9},
    test_images=360,
    parameters={"compact": 15050, "trained": 314654},
    epochs=3,
    seconds=12.34,
    images_per_second=1234.5,
    teacher={"top1": 0.75, "top5": 1.0},
    environment={"device": "cpu", "processes": 2},
)


def test_a_summary_comes_back_as_it_was_written(tmp_path):
    write_summary(tmp_path, SUMMARY)
    assert read_summary(tmp_path) == SUMMARY
    write_summary(tmp_path, alone := replace(SUMMARY, teacher=None))
    assert read_summary(tmp_path) == alone


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "x"}', json.dumps({"new": 1})])
def test_runs_without_a_summary_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}: not a finished run: "):
        read_summary(tmp_path)


def test_the_summary_of_a_real_run(distilled):
    summary = read_summary(distilled[1])
    assert summary.environment["processes"] == 1
    assert summary.images_per_second == pytest.approx(3 * 64 / summary.seconds)
    assert (summary.epochs, summary.exported_epoch, summary.test_images) == (3, 3, 64)
    assert summary.evaluated_on == "test"
