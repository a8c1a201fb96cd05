"""A run's teacher: trained first where it has no weights, and refused where it knows nothing."""

import json
import re

import pytest
import torch
from torch import nn

from kdx.commands.plan import dry_run
from kdx.models import weights
from kdx.models.students import smallnet
from kdx.report.summary import read_summary
from kdx.run.run import run
from kdx.training.job import build
from kdx.util.errors import TrainingError
from tests.unit.runs import contents

KD = "losses=[{use: kd}]"


def test_a_teacher_at_chance_is_refused_unless_allowed(recipe, console, tmp_path):
    guessing = smallnet(in_channels=1)
    nn.init.zeros_(guessing.fc2.weight)
    job = build(recipe())
    path = tmp_path / "guessing.safetensors"
    weights.save(guessing, path, input=job.data.input, classes=10)
    teacher = f"teacher={{use: smallnet, weights: {path}}}"
    with pytest.raises(
        ValueError,
        match=r"^teacher: .*% top-1 on 64 test images is no better than chance, which is 10\.00% "
        r"and reaches 17\.50% by luck \(two standard errors\)\. It may be undertrained, "
        r".*guessing\.safetensors may be another network's weights, its .* \(teacher\.input\)"
        r"\. To train with it anyway: `teacher\.allow_chance: true`",
    ):
        run(recipe(teacher, KD), console)
    allowed = recipe(teacher, KD, "teacher.allow_chance=true", name="allowed")
    summary = read_summary(run(allowed, console))
    assert summary.teacher["top1"] < 0.2


@pytest.mark.parametrize(
    ("teacher", "cause"),
    [
        ("{use: smallnet}", "It has no `weights:`: its parameters are random. Give them, and a"),
        (
            "{use: tests.toys.published, pretrained: true}",
            "It has no `weights:`, and a published network of other classes starts with a new cla",
        ),
    ],
)
def test_missing_weights_are_named_first(recipe, console, teacher, cause):
    with pytest.raises(ValueError, match=rf"by luck \(two standard errors\)\. {cause}"):
        run(recipe(f"teacher={teacher}", KD), console)


def test_a_teacher_is_trained_first_and_kept(recipe, console, tmp_path):
    recipe(name="first")  # writes first.yaml
    (tmp_path / "digits" / "first.yaml").write_text(
        "data: {use: digits, limit: 256, batch_size: 16}\n"
        "student: {use: smallnet}\n"
        "optimizer: {use: AdamW, lr: 0.01}\n"
        "epochs: 3\n"
    )
    teacher = "teacher={use: smallnet, weights: runs/digits/first, recipe: first.yaml}"
    student = recipe(teacher, "losses=[{use: kd}]")
    run(student, console)
    first = "The teacher has no weights yet: training digits/first first"
    assert console.file.getvalue().count(first) == 1
    weights_file = tmp_path / "runs/digits/first/student.safetensors"
    written = weights_file.stat().st_mtime_ns
    run(student, console, overwrite=True)
    assert console.file.getvalue().count("The teacher has no weights yet") == 1
    assert weights_file.stat().st_mtime_ns == written
    assert read_summary(student.run_dir).teacher["top1"] > 0.2


def test_a_teacher_that_diverges_names_its_own_recipe(recipe, console, tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "first.yaml").write_text(
        "data: {use: digits, limit: 64, batch_size: 16}\n"
        "student: {use: smallnet}\n"
        "optimizer: {use: SGD, lr: 1e20}\n"
    )
    teacher = "teacher={use: smallnet, weights: runs/digits/first, recipe: first.yaml}"
    own = r"training diverged: .*; in the training of the teacher \(`kdx distill .*first\.yaml`\)"
    with pytest.raises(TrainingError, match=own):
        run(recipe(teacher, KD), console)


def test_teachers_without_weights_that_nothing_trains(recipe, console):
    absent = "teacher={use: smallnet, weights: runs/digits/absent}"
    with pytest.raises(ValueError, match=r"digits/absent does not exist, and the recipe has no"):
        run(recipe(absent), console)
    recipe(name="other")
    with pytest.raises(ValueError, match=r"would write .*digits/other: make its `name:` and the w"):
        run(recipe(absent, "teacher.recipe=other.yaml"), console)


def test_what_is_wrong_with_the_student_shows_before_the_teacher_is_trained(recipe, console):
    recipe(name="first")
    absent = "teacher={use: smallnet, weights: runs/digits/first, recipe: first.yaml}"
    pool9 = "losses=[{use: pkt, student_layer: pool9, teacher_layer: fc1}]"
    with pytest.raises(ValueError, match="the student has no module 'pool9'"):
        run(recipe(absent, pool9), console)
    with pytest.raises(ValueError, match=r"smallnet with {'kernel_size': 7}, but .* would train"):
        run(recipe(absent, "teacher.kernel_size=7", "losses=[{use: kd}]"), console)
    assert "The teacher has no weights" not in console.file.getvalue()


def turned(teacher_run, outputs):
    """Return the state dict of the trained teacher with its last layer's rows in another order."""
    state = contents(teacher_run)
    return state | {name: state[name][outputs] for name in ("fc2.weight", "fc2.bias")}


ORDER = [0, 1, 4, 5, 6, 7, 8, 9, 2, 3]  # of its outputs, by class
INVERSE = [ORDER.index(n) for n in range(10)]


def test_a_teacher_whose_classes_are_in_another_order_is_refused(
    recipe, console, tmp_path, teacher_run
):
    """A .pth that does not name its classes, so that only its predictions tell."""
    torch.save(turned(teacher_run, INVERSE), tmp_path / "turned.pth")
    teacher = f"teacher={{use: smallnet, weights: {tmp_path}/turned.pth}}"
    limit = "data.limit={train: 64, test: 360}"
    with pytest.raises(
        ValueError,
        match=r"^teacher: by its predictions, its classes are in another order than the data's: "
        r"'2' is its output 4, not 2, .*Its outputs are, in order: 0, 1, 8, 9, 2, 3, 4, 5, 6, 7\. "
        r"Name the data's .* take the rows \[0, 1, 4, 5, 6, 7, 8, 9, 2, 3\] of the teacher's last "
        r"layer\. To train with it anyway: `teacher\.allow_chance: true`$",
    ):
        run(recipe(teacher, KD, limit), console)
    assert "by its predictions" not in console.file.getvalue()
    run(recipe(teacher, KD, limit, "teacher.allow_chance=true"), console)
    assert "note     teacher: by its predictions, its classes are" in console.file.getvalue()


@pytest.mark.parametrize("rows", [list(range(10)), [3, 1, 2, 0, *range(4, 10)]])
def test_two_classes_in_each_others_place(recipe, console, tmp_path, teacher_run, rows):
    torch.save(turned(teacher_run, rows), tmp_path / "turned.pth")
    teacher = f"teacher={{use: smallnet, weights: {tmp_path}/turned.pth}}"
    what = recipe(teacher, KD, "data.limit={train: 64, test: 360}")
    if rows[0] == 0:
        run(what, console)
        assert "order" not in console.file.getvalue()
    else:
        with pytest.raises(ValueError, match=r"'0' is its output 3, not 0, '3' is its output 0"):
            run(what, console)


def test_names_in_the_teachers_weights_are_compared(recipe, console, tmp_path, teacher_run):
    names = {"class_to_idx": {str(n): INVERSE[n] for n in range(10)}}
    torch.save({"state_dict": turned(teacher_run, INVERSE), **names}, tmp_path / "named.pth")
    teacher = f"teacher={{use: smallnet, weights: {tmp_path}/named.pth}}"
    with pytest.raises(ValueError, match=r"^teacher\.weights: class order mismatch: .*named\.pth"):
        build(recipe(teacher, KD))
    with pytest.raises(ValueError, match=r"^student\.weights: class order mismatch: .*named\.pth"):
        build(recipe(f"student.weights={tmp_path}/named.pth"))
    names = {"class_names": [f"digit {n}" for n in range(10)]}
    torch.save({"state_dict": contents(teacher_run), **names}, tmp_path / "named.pth")
    run(recipe(teacher, KD), console)
    note = "note     teacher.weights: class names differ: "
    assert console.file.getvalue().count(note) == 1
    dry_run(recipe(teacher, KD), console)
    assert console.file.getvalue().count(f"\nnote: {note[9:]}") == 1


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_what_half_precision_changes_is_measured(recipe, console, precision, tmp_path):
    """In the memo as live: its outputs are other ones."""
    teacher = "teacher={use: smallnet, allow_chance: true, memo: {views: 1}, "
    teacher += f"precision: {precision}}}"
    job = build(recipe(teacher, KD))
    images, _, _ = job.train_views.__getitems__([(0, index) for index in range(8)])
    network = job.teachers["teacher"]
    exact, found = network.module(images), network(images).logits
    assert found.dtype == torch.float32
    error = float((found - exact).abs().max() / exact.abs().max())
    assert (0 < error < 0.02) if precision == "bf16" else error == 0
    run(recipe(teacher, KD), console)
    said = r"teacher\.precision: outputs differ from float32 by at most \d\.\de-0[34] of the "
    said += r"largest; \d+ of 64 predictions changed"
    text = " ".join(console.file.getvalue().split())
    assert bool(re.search(said, text)) == (precision == "bf16")
    (memo,) = tmp_path.rglob("memo.json")
    assert json.loads(memo.read_text())["ingredients"]["precision"] == precision
