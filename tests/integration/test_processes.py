"""Real runs in two processes, by the command that the documentation gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from kdx.memo.fingerprint import fingerprint
from kdx.memo.store import Store

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
data: {use: digits, limit: 100, batch_size: 32, augment: {crop: 2, flip: true}, validation: 45}
student:
  use: tests.toys.plain
  transforms: [{use: expand.ExpandNet, conv: cl, classifier: expand, linear: true, rate: 2}]
losses:
  - {use: cross_entropy, label_smoothing: 0.1}
optimizer: {use: SGD, lr: 0.05, momentum: 0.9}
epochs: 3
train_metrics: true
"""


def distill(
    place: Path, processes: int, *overrides: str, tool: str = "distill", recipe: str = "recipe.yaml"
) -> Path:
    name = f"{Path(recipe).stem}{processes}"
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    if processes > 1:
        launcher += ["--multi_gpu", "--num_processes", str(processes), "--main_process_port", "0"]
    command = [*launcher, ROOT / f"tools/{tool}.py", place / recipe, f"name={name}",
               *overrides, "--plugin", "tests.toys", "--output-root", place]  # fmt: skip
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place / name


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_follow_one(tmp_path, accumulate):
    """The student has no BatchNorm, whose statistics are each process's own.

    100 samples in batches of 32 end in one of 4: two for each process.
    """
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    one, two = (distill(tmp_path, n, f"accumulate={accumulate if n > 1 else 1}") for n in (1, 2))
    summaries = [json.loads((run / "summary.json").read_text()) for run in (one, two)]
    assert [summary["environment"]["processes"] for summary in summaries] == [1, 2]
    for split in ("last", "test", "train"):
        assert summaries[0][split] == pytest.approx(summaries[1][split], abs=1e-5)
    lines = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (one, two)
    ]
    for first, second in zip(*lines, strict=True):
        assert first["loss/cross_entropy"] == pytest.approx(second["loss/cross_entropy"], rel=1e-5)
    students = [load_file(run / "student.safetensors") for run in (one, two)]
    for name, tensor in students[0].items():
        assert (tensor - students[1][name]).abs().max() < 1e-5


MEMO = (
    "teacher={use: tests.toys.plain, allow_chance: true, memo: {views: 2}}",
    "losses=[{use: kd}, {use: pkt, student_layer: '4', teacher_layer: '3'}]",
)


def held(place: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the rows of each output of the only memo at `place`, and which of them are whole."""
    (directory,) = (place / "memos").iterdir()
    about = json.loads((directory / "memo.json").read_text())
    found = {}
    for name, output in about["outputs"].items():
        key = f"{fingerprint(about['ingredients'])} {name} {output['holds']}"
        store = Store(directory, name, shape=(2, 100), width=output["bytes"], key=key)
        assert not store.notes
        rows = [store.read(view, np.arange(100)).view(np.float16) for view in (0, 1)]
        found[name] = np.array(rows), np.array([store.has(v, np.arange(100)) for v in (0, 1)])
        store.close()
    return found


def test_two_processes_fill_one_memo(tmp_path):
    """On the way, and ahead: batches of 33 leave one of 100 samples out of every epoch.

    The third epoch adds the one that the first left out, as it shows the same views; the tool
    adds both.
    """
    memos = []
    for name, processes, tool in (("one", 1, "distill"), ("two", 2, "distill"), ("all", 2, "memo")):
        place = tmp_path / name
        place.mkdir()
        (place / "recipe.yaml").write_text(RECIPE)
        distill(place, processes, "data.batch_size=33", *MEMO, tool=tool)
        memos.append(held(place))
    one, two, ahead = memos
    assert list(one) == list(two) == list(ahead) == ["logits", "feature.3"]
    for name, (values, whole) in one.items():
        assert whole.sum() == 2 * 100 - 1
        assert np.array_equal(whole, two[name][1])
        assert ahead[name][1].all()
        for other, _ in (two[name], ahead[name]):
            np.testing.assert_allclose(other[whole], values[whole], rtol=1e-3, atol=1e-4)
