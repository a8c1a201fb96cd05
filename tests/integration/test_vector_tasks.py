"""Several labels and numbers from a CSV file: trained, taught, mixed, exported, evaluated."""

import json
import re

import pytest
import torch
from PIL import Image

import kdx
from kdx.commands.evaluate import evaluate
from kdx.commands.main import main
from kdx.models.weights import read_metadata
from kdx.recipe import load
from kdx.training.job import build

RECIPE = """\
data: {{use: csv, train: {root}/train.csv, test: {root}/test.csv, size: 24, batch_size: 16, {data}}}
teacher: {{use: smallnet, allow_chance: true}}
student: {{use: smallnet, transforms: [{{use: expand.ExpandNet, conv: cl, rate: 2}}]}}
losses: {losses}
optimizer: {{use: SGD, lr: {lr}}}
epochs: 2
threads: 1
"""
LABELS = {
    "data": 'label: tags, separator: "|"',
    "losses": "[{use: bce, pos_weight: balanced}, {use: bce_kd, weight: 0.5}]",
    "lr": 0.01,
}
NUMBERS = {
    "data": "targets: [x, y]",
    "losses": "[{use: smooth_l1}, {use: mse, to: teacher, name: taught, weight: 0.5}]",
    "lr": 0.01,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder of images whose red and green say what is known of them."""
    root = tmp_path_factory.mktemp("vectors")
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 48), ("test", 16)):
        lines = ["path,tags,x,y"]
        for n in range(count):
            red, green = torch.randint(0, 256, (2,), generator=generator).tolist()
            Image.new("RGB", (16, 16), (red, green, 0)).save(root / f"{part}{n}.png")
            tags = "|".join(["red"] * (red > 128) + ["green"] * (green > 128))
            lines.append(f"{part}{n}.png,{tags},{1000 + red},{green / 100}")
        (root / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return root


def written(root, task, name="recipe.yaml"):
    path = root / name
    path.write_text(RECIPE.format(root=root, **task))
    return path


@pytest.mark.parametrize(
    ("task", "metrics", "mixed"),
    [
        (LABELS, ["map", "f1", "f1_macro"], {"mixup": 0.4, "cutmix": 1.0}),
        (NUMBERS, ["r2", "mae", "rmse"], {"mixup": 0.4}),
    ],
    ids=["labels", "numbers"],
)
def test_a_run(root, tmp_path, task, metrics, mixed, capsys):
    run = kdx.distill(written(root, task), data=mixed, output_root=tmp_path, name="run")
    assert list(run.summary.headings) == metrics
    assert not run.certificate.problems
    assert run.certificate.predictions == (32 if task is LABELS else 0)
    assert ("agreement" in run.summary.last) == (task is LABELS)
    again = evaluate(run.path)
    found = {name: value for name, value in run.metrics.items() if name != "agreement"}
    assert again.metrics == pytest.approx(found, abs=1e-6)
    first, text = run.metrics[metrics[0]], (run.path / "report.md").read_text()
    shown = f"{first:.2%} mAP" if task is LABELS else f"{first:.4g} R2"
    printed = capsys.readouterr().out
    assert f"parameters, {shown} on 16 test images" in printed
    assert f"16 test images, 2 {'labels' if task is LABELS else 'outputs'}\n" in printed
    assert ("a number is output x std + mean" in text) == (task is NUMBERS)
    assert f"| {shown.split()[0]} |" in text
    assert ("Predictions changed by compression: 0 of 32." in text) == (task is LABELS)


def test_numbers_of_an_exported_student_are_standardized_by_its_facts(root, tmp_path):
    job = build(load(written(root, NUMBERS), output_root=tmp_path))
    run = kdx.distill(written(root, NUMBERS), output_root=tmp_path, name="facts", quiet=True)
    facts = read_metadata(run.path)["extra"]["facts"]
    x = [float(line.split(",")[2]) for line in (root / "train.csv").read_text().split()[1:]]
    assert facts["target_mean"][0] == pytest.approx(sum(x) / 48)
    assert facts["target_std"] == pytest.approx(job.task.std)


def test_the_best_epoch_may_be_far_below_zero(root, tmp_path):
    """A learning rate of nearly 0, and outputs that are far from the numbers."""
    far = NUMBERS | {"data": "targets: [x], standardize: false", "lr": 1e-30}
    run = kdx.distill(written(root, far), output_root=tmp_path, name="far", quiet=True)
    assert run.metrics["r2"] < -100
    assert run.summary.best["r2"] == pytest.approx(run.metrics["r2"], rel=1e-3)
    assert run.summary.best_epoch in (1, 2)


def test_weights_are_balanced_by_the_training_split(root, tmp_path):
    job = build(load(written(root, LABELS), output_root=tmp_path))
    share = job.splits.train.targets.mean(0).double()
    (bce, _) = job.stages[0].objective.terms
    assert bce.loss.pos_weight == pytest.approx(((1 - share) / share).tolist())
    assert job.train_views.mixing is None


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [
        (LABELS, ["losses=[{use: cross_entropy}]"], r"'cross_entropy': a loss for one class an im"),
        (LABELS, ["losses.1.use=kd"], r"losses\[1\]: 'kd': .* use bce, or bce_kd to learn from"),
        (LABELS, ["losses.1={use: mse}"], r"'mse': a loss for numbers, but the data set has sev"),
        (NUMBERS, ["losses.0={use: bce}"], r"'bce': .*, but the data set has numbers: use mse, l1"),
        (NUMBERS, ["data.cutmix=1"], r"data.cutmix: not for regression: .* use data.mixup"),
        (NUMBERS, ["data.label_noise=0.5"], r"data.label_noise: 0.5 needs one label for each"),
        (
            LABELS,
            ["teacher.memo={views: 1, top: 1}"],
            r"teacher.memo.top: 1 keeps the largest logits for a",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_the_start(root, tmp_path, task, overrides, message):
    recipe = load(written(root, task), overrides, output_root=tmp_path)
    with pytest.raises(ValueError, match=message):
        build(recipe)


def test_a_teacher_of_other_numbers_is_refused(root, tmp_path):
    run = kdx.distill(written(root, NUMBERS), output_root=tmp_path, name="teacher", quiet=True)
    lines = (root / "train.csv").read_text().splitlines()
    (root / "half.csv").write_text("\n".join(lines[:25]) + "\n")
    overrides = [f"teacher.weights={run.path}", f"data.train={root}/half.csv"]
    with pytest.raises(
        ValueError, match=r"target_mean mismatch: .* use the data set that it was tra"
    ):
        build(load(written(root, NUMBERS), overrides, output_root=tmp_path))
    assert json.loads((run.path / "summary.json").read_text())["numbers"][1] == "r2"


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "shown"),
    [
        (LABELS, r"changed: 0 of 32\n  map \d+\.\d\d%, "),
        (NUMBERS, r"16 test images\n  r2 -?\d+\.\d+, "),
    ],
    ids=["labels", "numbers"],
)
def test_an_export_shows_the_metric_as_the_run_does(root, tmp_path, task, shown, capsys):
    run = kdx.distill(written(root, task), output_root=tmp_path, name="run")
    capsys.readouterr()
    assert main(["export", str(run.path), "--to", "onnx"]) == 0
    printed = capsys.readouterr().out
    assert re.search(shown, printed), printed
    assert "exports/student.onnx" in (run.path / "report.html").read_text()
