"""Run directories, checkpoints, recipes and memos that kdx 0.1.0 wrote: `tests/data/run_of_0_1`.

`digits/teacher` is a finished run, `digits/stopped` one that a signal stopped in its second stage,
and `digits/whole` what the same recipe came to there without being stopped.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from kdx.commands.compress import compress
from kdx.commands.evaluate import evaluate
from kdx.recipe import load
from kdx.report import write_report_page
from kdx.run.run import run

WRITTEN = Path(__file__).resolve().parents[1] / "data" / "run_of_0_1"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Copy the runs to `runs` below a directory of its own, the current one."""
    shutil.copytree(WRITTEN, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def test_a_run_that_was_stopped_then_is_resumed_to_the_same_end(root):
    recipe = load(root / "digits/stopped/recipe.yaml")
    run(recipe, Console(quiet=True), resume=True)
    found, wanted = root / "digits/stopped", root / "digits/whole"
    student = load_file(found / "student.safetensors")
    for name, value in load_file(wanted / "student.safetensors").items():
        torch.testing.assert_close(student[name], value, rtol=1e-4, atol=1e-5)
    lines = [(place / "metrics.jsonl").read_text().splitlines() for place in (found, wanted)]
    assert len(lines[0]) == len(lines[1]) == 4
    for one, other in zip(*(map(json.loads, each) for each in lines), strict=True):
        assert one["loss/total"] == pytest.approx(other["loss/total"], rel=1e-4)
        assert [name for name in one if not name.startswith("exported/")] == list(other)


def test_a_finished_run_is_left_alone(root):
    console = Console(record=True, quiet=False, width=200)
    run(load(root / "digits/teacher/recipe.yaml"), console, resume=True)
    assert "is finished" in console.export_text()


def test_a_finished_run_is_evaluated(root):
    place = root / "digits/teacher"
    found = evaluate(place)
    assert found.metrics["top1"] == json.loads((place / "summary.json").read_text())["test"]["top1"]


def test_a_finished_run_has_a_page(root):
    page = write_report_page([root / "digits/teacher"]).read_text()
    test = json.loads((root / "digits/teacher/summary.json").read_text())["test"]
    assert f"<strong>{test['top1']:.2%}</strong>" in page
    assert all(f"<h2>{each}</h2>" in page for each in ("Result", "Certificate", "Curves", "Recipe"))
    assert "<h2>Classes</h2>" not in page


def test_a_checkpoint_is_compressed(root, tmp_path):
    place = root / "digits/stopped/checkpoints/epoch_0002_step_000002"
    certificate = compress(place, tmp_path / "a.safetensors")
    assert not certificate.problems
    assert certificate.parameters == {"trained": 31_386, "compact": 14_906}
