"""Runs whose student trains for int8: what is chosen, certified, written and refused."""

import json

import pytest
import torch

from kdx.commands.compress import compress
from kdx.models import weights
from kdx.report.summary import read_summary
from kdx.run.run import run
from kdx.training.job import build
from tests.faults.resuming import differences, run_stopped_at
from tests.unit.runs import SGD

QAT = (
    "student.transforms=[{use: expand.ExpandNet, conv: cl}, {use: quantize.QAT, start: float}]",
    "stages=[{phase: nonlinear, epochs: 1}, {phase: linear, epochs: 1}, {phase: int8, epochs: 1}]",
)


def test_the_best_epoch_is_the_best_in_int8_and_the_certificate_is_of_the_float_network(
    recipe, console, tmp_path
):
    recipe = recipe(*QAT, SGD)
    run_dir = run(recipe, console)
    summary = read_summary(run_dir)
    simulated = summary.simulated["int8"]
    assert summary.exported_epoch == 3
    assert simulated == summary.best  # evaluated on the test images, both
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert lines[summary.exported_epoch - 1]["test/loss"] == simulated["loss"]
    assert simulated["loss"] != summary.test["loss"]
    assert abs(simulated["loss"] - summary.test["loss"]) < 0.1 * summary.test["loss"]
    certificate = json.loads((run_dir / "certificate.json").read_text())
    assert certificate["holds"]
    trained, compact = (certificate["metrics"][name]["loss"] for name in ("trained", "compact"))
    assert abs(trained - compact) < 1e-5 * compact
    assert "| student, int8 (simulated) | test, n = " in (run_dir / "report.md").read_text()
    assert "simulated, on the test images" in console.file.getvalue()
    file = run_dir / "student.safetensors"
    ranges = weights.read_metadata(file)["extra"]["int8"]["input_ranges"]
    assert list(ranges) == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert all(low <= 0 < high for low, high in ranges.values())
    checkpoint = run_dir / "checkpoints" / f"epoch_{summary.exported_epoch:04d}"
    compress(checkpoint, tmp_path / "again.safetensors")
    again = weights.read_metadata(tmp_path / "again.safetensors")["extra"]
    assert again["int8"]["input_ranges"] == ranges


def test_a_resumed_run_is_the_same_to_the_byte(recipe, console, monkeypatch):
    whole = run(recipe(*QAT, SGD, "accumulate=2", name="whole"), console)
    stopped = run_stopped_at(recipe(*QAT, SGD, "accumulate=2", name="stopped"), [7, 3], monkeypatch)
    assert differences(whole, stopped) == []


def test_a_phase_is_for_the_transforms_that_know_it(recipe):
    job = build(recipe(*QAT, SGD))
    unit = job.student.conv1
    seen = []
    for phase in ("nonlinear", "linear", "int8"):
        job.enter(phase)
        seen.append((unit.mode, unit.quantising))
    assert seen == [("nonlinear", False), ("folded", False), ("folded", True)]
    with pytest.raises(ValueError, match=r"'warm' is not one of nonlinear, linear; .* float, int8"):
        job.enter("warm")


def test_a_trained_student_starts_as_it_was(recipe, console):
    file = run(recipe(SGD, name="first"), console) / "student.safetensors"
    qat = "student.transforms=[{use: quantize.QAT}]"
    job = build(recipe(f"student.weights={file}", qat, SGD))
    assert torch.equal(job.student.conv1.weight, job.compact.conv1.weight)
    assert job.student.conv1.quantising


def test_an_average_is_refused(recipe):
    qat = "student.transforms=[{use: quantize.QAT}]"
    with pytest.raises(ValueError, match=r"average: cannot be combined with .* int8"):
        build(recipe(qat, SGD, "average={use: ema}"))
