"""kdx bench: latency and memory side by side."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import kdx
from kdx.commands.main import main
from kdx.exporting import memory
from kdx.exporting.bench import bench
from kdx.models import weights


def test_bench_measures_student_and_exports(run_dir, monkeypatch, capsys):
    """The memory here is that of the images; an export of which the runtime is missing is named."""
    monkeypatch.setattr("kdx.exporting.bench.measure", lambda *given, threads: given[2].nbytes)
    kdx.export(run_dir, "torch-export", images=8)
    kdx.export(run_dir, "torch-export", run_dir / "pixels.pt2", preprocess=True, images=8)
    file = run_dir / "certificate.json"
    certificate = json.loads(file.read_text())
    certificate["exports"].append({"file": "recipe.yaml", "format": "litert", "bytes": 1})
    file.write_text(json.dumps(certificate))
    rows = {row["name"]: row for row in bench(run_dir, batches=(2,))}
    student, values = kdx.load_student(run_dir), 2 * math.prod(weights.read_spec(run_dir).shape)
    expected = sum(each.nbytes for each in student.state_dict().values())
    assert (rows["student"]["bytes"], rows["student"]["peak_bytes"]) == (expected, 4 * values)
    export = rows["exports/student.pt2"]
    assert (export["bytes"], export["peak_bytes"]) == (
        (run_dir / "exports" / "student.pt2").stat().st_size,
        4 * values,
    )
    assert rows["pixels.pt2"]["peak_bytes"] == values
    assert all(0 < row["median_ms"] <= row["p95_ms"] for row in rows.values() if len(row) > 5)
    assert rows["recipe.yaml"]["problem"].startswith("litert: litert_torch is not installed")
    assert main(["bench", str(run_dir), "--batch", "1"]) == 0
    lines = capsys.readouterr().out
    assert "exports/student.pt2" in lines
    assert "recipe.yaml at batch 1: litert: litert_torch is not installed" in lines


def _opened():
    kept = np.ones(5 * 10**6)

    def call(images):
        made = np.ones((len(images), 5 * 10**6))
        return kept[:1] + made[:, :1]

    return call


@pytest.mark.skipif(not memory.PROCESS.exists(), reason="needs /proc")
def test_the_peak_has_weights_and_activations():
    """Of 40 MB of weights and 40 MB for each of two images; what is freed again does count."""
    found = memory.in_fresh_process(memory.peak, _opened, np.zeros((2, 1)))
    assert found == pytest.approx(120e6, abs=4e6)


@pytest.mark.long
@pytest.mark.skipif(not memory.PROCESS.exists(), reason="needs /proc")
def test_memory_is_measured_in_a_process_of_its_own(tmp_path):
    torch.save(nn.Linear(4000, 4000), tmp_path / "network")  # 64 MB
    images = np.ones((1, 4000), dtype=np.float32)
    found = memory.measure(memory.NETWORK, tmp_path / "network", images)
    assert found == pytest.approx(64e6, abs=4e6)
    assert memory.measure(memory.NETWORK, tmp_path / "network", images[:, :10]) is None
