import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from kdx.models.certificate import Certificate, Errors
from kdx.protocols import InputSpec
from kdx.report.student_file import outputs_in_words
from kdx.report.summary import read_summary
from kdx.run.report import write_report
from tests.unit.kdx.report.test_summary import SUMMARY
from tests.unit.kdx.report.test_weights import EXTRA, student

CERTIFICATE = Certificate(
    Errors(0.00123, 4.56e-7, 1e-4, 1024), Errors(1e-14, 2e-16, 1e-9, 256), 3, 1024, {}
)


INPUT = InputSpec(1, 32, (0.5,), (0.25,))


EPOCH = {"epoch": 1, "stage": "train", "learning_rate": 0.01, "loss/total": 2.5}
ONE = [{"loss/kd": 2.5, "test/top1": 0.5}]


def written(recipe, tmp_path, summary=SUMMARY, epochs=ONE):
    lines = [json.dumps({**EPOCH, **epoch}) for epoch in epochs]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    path = write_report(tmp_path, recipe, summary, CERTIFICATE, input=INPUT)
    assert path == tmp_path / "report.md"
    return path.read_text()


def rows(text, heading):
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [["---" if set(cell) <= {*"-:"} and cell else cell for cell in row] for row in cells]


def test_the_report_says_what_came_out(recipe, tmp_path):
    text = written(recipe("select=last"), tmp_path)
    assert rows(text, "Result")[2:] == [
        ["student (exported)", "test, n = 360", "59.38%", "90.00%"],
        ["student, last epoch (3)", "validation", "50.00%", "90.00%"],
        ["student, best epoch (2)", "validation", "62.50%", "95.00%"],
        ["teacher", "validation", "75.00%", "100.00%"],
    ]
    assert "15,050 parameters (314,654 while training), 12.3 s of training" in text
    assert "optimistic" not in text
    assert rows(text, "Certificate")[2:] == [
        ["float32", "0.00123", "4.56e-07", "0.0001", "1,024"],
        ["float64", "1e-14", "2e-16", "1e-09", "256"],
    ]
    assert "Predictions changed by compression: 3 of 1,024." in text
    assert rows(text, "Epochs") == [
        ["epoch", "stage", "learning rate", "loss/total", "loss/kd", "test/top1"],
        ["---"] * 6,
        ["1", "train", "0.01", "2.5000", "2.5000", "0.5000"],
    ]
    assert ["processes", "2"] in rows(text, "Environment")
    assert f"kdx evaluate {tmp_path}" in text


def test_diagnosed_gradients_are_a_table(recipe, tmp_path):
    losses = "losses=[{use: cross_entropy, weight: 0.5}, {use: kd}, {use: sp, weight: 0}]"
    losses = losses.replace("sp,", "sp, student_layer: fc1, teacher_layer: fc1,")
    made = recipe(losses, "teacher.use=smallnet", "stages=[{name: first}, {name: last}]")
    assert "## Gradients" not in written(made, tmp_path)
    first = {"gradient/cross_entropy": 1.0, "gradient/kd": 2.0, "cosine/kd": 0.5,
             "suggested/kd": 0.25, "gradient/sp": 0.0}  # fmt: skip
    second = {"gradient/cross_entropy": 2.2222, "gradient/kd": 0.5, "cosine/kd": -0.125,
              "suggested/kd": 2.2, "weight/kd": 3.0}  # fmt: skip
    epochs = [{"stage": "first", **first}, {"epoch": 2, "stage": "first", **second}]
    assert rows(written(made, tmp_path, epochs=epochs), "Gradients") == [
        ["stage", "term", "weight", "gradient", "weight x gradient", "cosine",
         "suggested weight", "over all epochs"],
        ["---"] * 8,
        ["first", "cross_entropy", "0.5", "2.22", "1.11", "", "", ""],
        ["first", "kd", "3", "0.5", "1.5", "-0.12", "2.2", "0.25 to 2.2"],
        ["first", "sp", "0", "0", "0", "", "", ""],
    ]  # fmt: skip


def test_training_images_and_label_noise_are_shown(recipe, tmp_path):
    summary = replace(SUMMARY, train={"top1": 0.25, "top5": 0.75})
    text = written(recipe("data.label_noise=0.125"), tmp_path, summary)
    shown = ["student, last epoch (3)", "training images", "25.00%", "75.00%"]
    assert rows(text, "Result")[4] == shown
    assert "`smallnet` on `digits` with 12.5% of the training labels drawn at random. Ba" in text


def test_augmentation_mixing_average_and_clipping_are_said(recipe, tmp_path):
    made = recipe("data.augment={crop: 2}", "data.mixup=0.2", "clip=1", "average={use: swa}")
    said = "Augmentation: crop 2; mixing: mixup 0.2; average: swa; clipping: norm 1."
    assert f"Batch 16, seed 0. {said}\n" in written(made, tmp_path)
    assert "Batch 16, seed 0.\n" in written(recipe(), tmp_path)


def test_the_outputs_of_a_regression_are_explained(recipe, tmp_path):
    student(tmp_path, extra=EXTRA)
    assert outputs_in_words(tmp_path) in written(recipe(), tmp_path).partition("## Load it")[2]


def test_a_choice_on_the_test_images_is_called_what_it_is(recipe, tmp_path):
    summary = replace(SUMMARY, evaluated_on="test", teacher=None)
    text = written(recipe(), tmp_path, summary)
    assert "chosen on the test images, so its figures are optimistic" in text
    assert not any(row[0] == "teacher" for row in rows(text, "Result"))


def test_the_report_of_a_real_run(distilled):
    recipe, run_dir, _ = distilled
    text = (run_dir / "report.md").read_text()
    begin = f"# {recipe.name}\n\n`smallnet` on `digits`, trained as `expand.ExpandNet`("
    assert text.startswith(begin)
    assert "distilled from `smallnet`. Batch 16, seed 0." in text
    losses = "0.5 cross_entropy + 0.25 kd + 0.125 hint"
    assert f"- nonlinear: {losses}, 1 epoch, `SGD`(lr=0.01, momentum=0.9), `constant`" in text
    assert f"- linear: {losses}, 2 epochs, " in text
    summary = read_summary(run_dir)
    shown = [f"{summary.test[key]:.2%}" for key in ("top1", "top5")]
    assert rows(text, "Result")[2][:4] == ["student (exported)", "test, n = 64", *shown]
    assert rows(text, "Result")[3][4] == f"{summary.last['agreement']:.2%}"
    code = text.partition("```python\n")[2].partition("```")[0]
    assert f'student = kdx.load_student("{run_dir}", plugins=["tests.toys"])\n' in code
    namespace: dict = {}
    exec(code, namespace)
    saved = load_file(run_dir / "student.safetensors")
    built = namespace["student"].state_dict()
    assert built.keys() == saved.keys()
    assert all(torch.equal(built[name], saved[name]) for name in saved)
    assert not namespace["student"].training
    assert "It takes images of 1 x 32 x 32 as (pixels / 255 - mean) / std, mean (" in text
    assert [row[:2] for row in rows(text, "Epochs")[2:]] == [
        ["1", "nonlinear"], ["2", "linear"], ["3", "linear"],
    ]  # fmt: skip


@pytest.mark.parametrize("missing", ["test/top1", "loss/kd"])
def test_epochs_that_lack_a_number_leave_its_cell_empty(recipe, tmp_path, missing):
    whole = {"loss/kd": 1.0, "test/top1": 0.5}
    lacking = {name: value for name, value in whole.items() if name != missing}
    text = written(recipe(), tmp_path, epochs=(lacking, whole))
    heading, _, first, second = rows(text, "Epochs")
    assert first[heading.index(missing)] == ""
    assert second[heading.index(missing)] != ""


def test_the_losses_of_every_stage_are_shown(recipe, tmp_path):
    epochs = {"stage": "hint", "loss/hint": 1.0}, {"epoch": 2, "stage": "kd", "loss/kd": 1.0}
    text = written(recipe(), tmp_path, epochs=epochs)
    assert {"loss/hint", "loss/kd"} <= set(rows(text, "Epochs")[0])
