"""The main job as a whole: what it leaves behind, and what it refuses."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import expand
from kdx.commands.evaluate import evaluate
from kdx.models import weights
from kdx.models.modes import eval_mode
from kdx.models.students import smallnet
from kdx.recipe import load
from kdx.report.summary import read_summary
from kdx.run.run import run
from kdx.training.job import build
from kdx.training.stage import StageRunner
from kdx.training.state import TrainState
from kdx.util.errors import CertificateError, TrainingError
from tests.unit.runs import EXPAND, FILES, SGD, contents, listed, same

DISTILL = Path(__file__).parents[4] / "tools" / "distill.py"
SPOILT = (  # the last epoch takes steps a thousand times too long: the best is not the last
    "data={use: digits, limit: 256, batch_size: 16, validation: 256}", "select=best", "epochs=3",
    "optimizer={use: AdamW, lr: 0.01}", "schedule={use: multistep, milestones: [2], gamma: 1000}",
)  # fmt: skip


@torch.no_grad()
def accuracy(network: nn.Module, job, split: str = "test") -> float:
    """The share of a split's images that the network gets right, counted by hand."""
    views = type(job.train_views)(getattr(job.splits, split), job.data.input, seed=0)
    images, labels, _ = views.__getitems__([(0, i) for i in range(len(views))])
    with eval_mode(network):
        return (network(images).argmax(1) == labels).float().mean().item()


def test_a_run_directory(distilled):
    recipe, run_dir, _ = distilled
    assert run_dir == recipe.run_dir
    assert listed(run_dir) == FILES
    assert len(listed(run_dir / "tensorboard")) == 1
    assert set(listed(run_dir / "checkpoints")) <= {"epoch_0001", "epoch_0002", "epoch_0003"}
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["stage"]) for line in lines] == [
        (1, "nonlinear"), (2, "linear"), (3, "linear"),
    ]  # fmt: skip
    assert lines[0].keys() == {
        "epoch", "stage", "learning_rate", "images_per_second", "seconds", "loss/total",
        *(f"loss/{term}" for term in ("cross_entropy", "kd", "hint")),
        *(f"weighted/{term}" for term in ("cross_entropy", "kd", "hint")),
        "test/top1", "test/top5", "test/loss", "test/agreement",
    }  # fmt: skip


def test_the_recipe_in_it_runs_again(distilled):
    recipe, run_dir, _ = distilled
    again = load(run_dir / "recipe.yaml", output_root=recipe.run_dir.parents[1])
    assert again.to_yaml() == recipe.to_yaml()
    assert again.run_dir == run_dir


def test_the_student_loads_into_the_plain_network_with_its_certified_accuracy(distilled):
    recipe, run_dir, _ = distilled
    plain = smallnet(in_channels=1)
    plain.load_state_dict(contents(run_dir), strict=True)
    certificate = json.loads((run_dir / "certificate.json").read_text())
    assert certificate["holds"] is True
    assert certificate["float32"]["max_rel_error"] <= certificate["float32"]["tolerance"] == 1e-4
    assert certificate["float64"]["max_rel_error"] <= certificate["float64"]["tolerance"] == 1e-9
    assert certificate["parameters"]["compact"] == sum(p.numel() for p in plain.parameters())
    found = accuracy(plain, build(recipe))
    assert certificate["metrics"]["compact"]["top1"] == pytest.approx(found)
    assert read_summary(run_dir).test["top1"] == pytest.approx(found)
    about = weights.read_metadata(run_dir)
    assert about["classes"] == 10
    assert about["extra"]["use"] == "smallnet"
    assert about["extra"]["class_names"] == [str(digit) for digit in range(10)]


def test_checkpoints_hold_the_expanded_student_and_adaptors_and_no_teacher(distilled):
    _, run_dir, _ = distilled
    checkpoint = run_dir / "checkpoints" / "epoch_0003"
    student = expand.expand(smallnet(in_channels=1), "cl", linear=True, rate=2)
    student.load_state_dict(contents(checkpoint), strict=True)
    assert load_file(checkpoint / "adaptors.safetensors").keys() == {"hint.regressor.weight"}
    state = TrainState.read(checkpoint)
    assert (state.stage, state.phase) == ("linear", "linear")
    compact = expand.compress(student).state_dict()
    assert all(torch.allclose(compact[k], v, atol=1e-6) for k, v in contents(run_dir).items())


def test_the_terminal_tells_of_data_student_teacher_epochs_and_outcome(distilled):
    _, run_dir, printed = distilled
    for line in (
        "data     digits: 64 training images, 64 test images, 10 classes",
        "student  smallnet: 14,906 parameters, trained with ",
        "device   cpu, 1 process, 1 thread",
        "top-1 on 64 test images",
        "1/3 nonlinear  loss ",
        "3/3 linear  loss ",
        "compact  14,906 parameters, ",
        f"student  {run_dir}/student.safetensors",
        f"report   {run_dir}/report.html",
    ):
        assert line in printed


def test_training_images_are_evaluated_as_they_are_with_the_labels_trained_on(
    recipe, teacher_run, console
):
    recipe = recipe(f"teacher={{use: smallnet, weights: {teacher_run}}}", "data.label_noise=0.5",
                    "train_metrics=true", "data.augment.crop=2", "epochs=2",
                    "losses=[{use: cross_entropy}, {use: kd}]")  # fmt: skip
    run_dir = run(recipe, console)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    shown = [{n[6:]: v for n, v in line.items() if n.startswith("train/")} for line in lines]
    assert [set(metrics) for metrics in shown] == [{"top1", "top5", "loss"}] * 2
    assert all("test/agreement" in line for line in lines)
    assert read_summary(run_dir).train == shown[1]
    job, student = build(recipe), smallnet(in_channels=1)
    student.load_state_dict(contents(run_dir), strict=True)
    assert accuracy(student, job, "train") == pytest.approx(shown[1]["top1"], abs=1e-6)
    printed = console.file.getvalue()
    assert f"  train {shown[1]['top1']:.2%}  " in printed
    assert f"note     {job.data.notes[0]}\n" in printed


def test_a_restore_that_is_wrong_at_its_start_is_refused_before_training(recipe, console):
    recipe = recipe("student.transforms=[{use: tests.toys.Rescale, fold: false}]", SGD)
    with pytest.raises(ValueError, match=r"^student.transforms: compact and trained"):
        run(recipe, console)
    assert not recipe.run_dir.exists()


def test_a_restore_that_is_wrong_after_training_exports_nothing(recipe, console, monkeypatch):
    recipe, finish = (
        recipe("student.transforms=[{use: tests.toys.Rescale}]", SGD),
        StageRunner.finish,
    )

    def forget(self):
        finish(self)
        self.runtime.job.transforms[0].fold = False

    monkeypatch.setattr(StageRunner, "finish", forget)
    with pytest.raises(CertificateError, match=r"digits/plain: compact and trained .* not"):
        run(recipe, console)
    assert listed(recipe.run_dir) == [
        "certificate.json", "checkpoints", "metrics.jsonl", "recipe.yaml", "tensorboard",
    ]  # fmt: skip
    certificate = json.loads((recipe.run_dir / "certificate.json").read_text())
    assert certificate["holds"] is False
    assert certificate["float64"]["max_rel_error"] > 1e-3


def test_the_same_transform_folded_holds(recipe, console):
    run_dir = run(recipe("student.transforms=[{use: tests.toys.Rescale}]", SGD), console)
    assert json.loads((run_dir / "certificate.json").read_text())["holds"] is True


def test_a_run_may_not_end_in_the_nonlinear_phase(recipe, console):
    recipe = recipe(EXPAND, "stages=[{phase: linear}, {phase: nonlinear}]")
    with pytest.raises(ValueError, match=r"after the last stage: cannot compress a unit in nonlin"):
        run(recipe, console)
    assert not recipe.run_dir.exists()


def test_trained_weights_are_not_lost_in_an_expansion(recipe, console, teacher_run):
    start = f"student.weights={teacher_run}"
    with pytest.raises(ValueError, match=r"student.transforms: .* set `init: preserve`"):
        run(recipe(start, EXPAND), console)
    kept = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, init: preserve}]"
    run_dir = run(recipe(start, kept, "optimizer.lr=1e-9", "data.limit=256"), console)
    # BatchNorm goes on following its batches, so not to the last sample.
    before = read_summary(teacher_run).test["top1"]
    assert read_summary(run_dir).test["top1"] == pytest.approx(before, abs=0.02)


def test_the_best_epoch_is_exported_when_asked(recipe, console):
    run_dir = run(recipe(*SPOILT), console)
    summary = read_summary(run_dir)
    assert summary.best_epoch == summary.exported_epoch < 3
    assert summary.best["top1"] > summary.last["top1"] + 0.05
    checkpoint = run_dir / "checkpoints" / f"epoch_{summary.best_epoch:04d}"
    assert same(contents(checkpoint), contents(run_dir))
    certificate = json.loads((run_dir / "certificate.json").read_text())
    assert certificate["metrics"]["compact"]["top1"] == summary.best["top1"]
    assert listed(run_dir / "checkpoints") == [checkpoint.name, "epoch_0003"]


def test_two_processes_report_the_student_that_they_export(recipe, tmp_path):
    best = recipe(*SPOILT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    what = [tmp_path / "digits/plain.yaml", *SPOILT, f"--output-root={tmp_path}/runs"]
    done = subprocess.run(
        [*launch, DISTILL, *what],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_summary(best.run_dir)
    assert summary.environment["processes"] == 2
    assert summary.best_epoch < 3
    job = build(best)
    weights.load(job.compact, best.run_dir)
    assert summary.test["top1"] == pytest.approx(accuracy(job.compact, job))
    certificate = json.loads((best.run_dir / "certificate.json").read_text())
    assert certificate["metrics"]["compact"]["top1"] == summary.best["top1"]
    written = json.loads((best.run_dir / "classes.json").read_text())
    found = asdict(evaluate(best.run_dir, classes=True).classes)  # by one process
    for each in (*written["worst"], *found["worst"]):
        each["picture"] = None
    assert written == found


def test_the_same_seed_gives_the_same_student(recipe, console):
    what = (EXPAND, SGD, "data.augment.crop=2", "epochs=2")
    first, again, other = (
        contents(run(recipe(*what, f"seed={seed}", name=name), console))
        for name, seed in (("first", 5), ("again", 5), ("other", 6))
    )
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("lr", ["1e20", "1e10"])
def test_outputs_that_overflow_after_the_last_step_are_a_divergence(recipe, console, lr):
    """One step, whose loss is finite, and so are the weights after it."""
    small = "data={use: digits, limit: 64, batch_size: 64}"
    overflowing = recipe(small, "epochs=1", f"optimizer={{use: SGD, lr: {lr}}}")
    expected = r"^training diverged: the student's outputs contain NaN or Inf \(after the last"
    with pytest.raises(TrainingError, match=expected):
        run(overflowing, console)
    assert not {"certificate.json", "student.safetensors"} & set(listed(overflowing.run_dir))
