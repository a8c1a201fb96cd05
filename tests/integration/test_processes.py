"""Real runs in two processes, by the command that the documentation gives."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from kdx.memo.fingerprint import fingerprint
from kdx.memo.store import Store
from kdx.recipe import load
from kdx.run.run import run
from kdx.training.state import TrainState

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


DIAGNOSED = ("teacher={use: tests.toys.plain, allow_chance: true}", "diagnose=2")
MODERN = (
    "data.augment=[{use: RandomResizedCrop, scale: [0.35, 1]}, {use: RandAugment}]",
    "data.mixup=0.2",
    "data.cutmix=1.0",
)
SP = "{use: sp, student_layer: '4', teacher_layer: '3', weight: 0}"


def distill(
    place: Path, processes: int, *overrides: str, tool: str = "distill", recipe: str = "recipe.yaml"
) -> Path:
    """Return the run directory; one process is this one, which has everything imported."""
    name = f"{Path(recipe).stem}{processes}"
    if processes == 1:
        what = [f"name={name}", *overrides]
        return run(
            load(place / recipe, what, plugins=["tests.toys"], output_root=place),
            Console(quiet=True),
        )
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launcher += ["--num_processes", str(processes), "--main_process_port", "0"]
    command = [*launcher, ROOT / f"tools/{tool}.py", place / recipe, f"name={name}",
               *overrides, "--plugin", "tests.toys", "--output-root", place]  # fmt: skip
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place / name


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.long), 2])
def test_two_processes_follow_one(tmp_path, accumulate):
    """The student has no BatchNorm, whose statistics are each process's own.

    100 samples in batches of 32 end in one of 4: two for each process. The gradients that are
    diagnosed are those of one process, too: also of a loss that compares samples, as long as it
    sees all of them at once. Accumulated ones are of mixed images.
    """
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    losses = ["{use: cross_entropy}", "{use: kd}", *([SP] if accumulate == 1 else [])]
    mixed = MODERN if accumulate == 2 else ()
    what = (*DIAGNOSED, f"losses=[{', '.join(losses)}]", *mixed)
    one, two = (
        distill(tmp_path, n, f"accumulate={accumulate if n > 1 else 1}", *what) for n in (1, 2)
    )
    summaries = [json.loads((each / "summary.json").read_text()) for each in (one, two)]
    assert [summary["environment"]["processes"] for summary in summaries] == [1, 2]
    for split in ("last", "test", "train"):
        assert summaries[0][split] == pytest.approx(summaries[1][split], abs=1e-5)
    lines = [
        [json.loads(line) for line in (each / "metrics.jsonl").read_text().splitlines()]
        for each in (one, two)
    ]
    for first, second in zip(*lines, strict=True):
        assert first["loss/cross_entropy"] == pytest.approx(second["loss/cross_entropy"], rel=1e-5)
        names = [name for name in first if name.startswith(("gradient/", "cosine/"))]
        assert len(names) == 2 * len(losses) - 1
        for name in names:
            assert first[name] == pytest.approx(second[name], rel=1e-4), name
    students = [load_file(each / "student.safetensors") for each in (one, two)]
    for name, tensor in students[0].items():
        assert (tensor - students[1][name]).abs().max() < 1e-5


def kdx(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m kdx distill recipe.yaml ...` at `place`, told of nothing but its threads."""
    kept = {k: v for k, v in os.environ.items() if k not in ("ACCELERATE_USE_CPU", "WORLD_SIZE")}
    kept |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "kdx", "distill", "recipe.yaml", *arguments]
    command += ["--plugin", "tests.toys"]
    return subprocess.run(command, cwd=place, env=kept, capture_output=True, text=True, check=False)


def test_kdx_distill_starts_as_many_processes_as_it_is_asked_for(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = kdx(tmp_path, "--processes", "2", "epochs=1", "name=two")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    summary = json.loads((tmp_path / "runs/two/summary.json").read_text())
    assert summary["environment"]["processes"] == 2
    assert (tmp_path / "runs/two/student.safetensors").is_file()
    state, _ = TrainState.newest(tmp_path / "runs/two")
    assert state is not None
    one, two = state.training["ranks"]  # each draws numbers of its own from each generator
    assert one["numpy"] != two["numpy"]
    assert one["python"] != two["python"]
    assert not torch.equal(one["torch"], two["torch"])
    again = kdx(tmp_path, "--processes", "2", "epochs=1", "name=two")
    assert again.returncode == 2  # that of its processes, not the launcher's
    assert "runs/two already exists" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_signal_is_passed_on_to_all_processes(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = ["--processes", "2", "epochs=2000", "name=two", "--plugin", "tests.toys"]
    command = [sys.executable, "-m", "kdx", "distill", "recipe.yaml", *options]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as running:
        log, deadline = tmp_path / "runs/two/metrics.jsonl", time.monotonic() + 60
        while not (log.is_file() and log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.2)
        running.terminate()
        said = running.communicate(timeout=60)[1]
    assert running.returncode == 3, said
    assert said.startswith("stopped by a signal, saved in runs/two/checkpoints/epoch_")
    assert said.endswith("; to continue, run the same command with --resume\n")
    assert len(said.splitlines()) == 1


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
        rows = [store.read(view, np.arange(100))[0].view(np.float16) for view in (0, 1)]
        found[name] = np.array(rows), np.array([store.has(v, np.arange(100)) for v in (0, 1)])
        store.close()
    return found


@pytest.mark.long
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
