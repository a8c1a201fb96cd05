import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from kdx.commands.plan import dry_run
from kdx.data import digits
from kdx.data.sets import TABLE
from kdx.training.stage import StageRunner

KD = "losses=[{use: kd}]"
EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]"


def printed(recipe, console):
    dry_run(recipe, console)
    assert not recipe.run_dir.exists()
    return console.file.getvalue()


def test_it_prints_plan_stages_and_cost_and_writes_nothing(recipe, console):
    text = printed(recipe(EXPAND, "epochs=3", "data.validation=32", "data.mixup=0.5"), console)
    assert "digits/plain: dry run" in text
    assert "data: digits, 1 x 32 x 32, 10 classes: 64 training, 32 validation, 64 test" in text
    assert "trained: mixing: mixup 0.5\n" in text
    assert "plan of expand.ExpandNet:" in text
    for layer in ("conv1", "conv2", "conv3", "fc1", "fc2"):
        assert layer in text
    assert "student: smallnet, 14,906 parameters, trained with " in text
    row = next(line for line in text.splitlines() if "1 cross_entropy" in line)
    cells = row.split()
    assert cells[:5] == ["train", "1", "cross_entropy", "3", "12"]
    assert float(cells[5]) > 0
    assert "cost: about " in text
    assert "GiB of memory" in text
    assert "rehearsal: compressed, the student equals the compact network within " in text
    assert text.rstrip().endswith("runs/digits/plain")


def test_a_teacher_without_weights_is_tried_with_random_ones(recipe, console):
    teacher = "teacher={use: smallnet, weights: runs/digits/first, recipe: first.yaml}"
    recipe(name="first")
    text = printed(recipe(teacher, KD), console)
    assert "teacher: smallnet, 14,906 parameters; no weights at " in text
    assert "runs/digits/first yet: digits/first is run first" in text
    assert re.search(r"cost: about [\d.]+ s of training, after [\d.]+ s for the teacher; ", text)


def test_a_teacher_that_nothing_trains_would_stop_the_run(recipe, console):
    text = printed(recipe(KD, "teacher={use: smallnet, weights: runs/digits/first}"), console)
    assert "digits/first, and no `recipe:`: the run would stop here" in text
    assert "the teacher's own" not in text


def test_where_a_teacher_comes_from_is_always_said(recipe, console, teacher_run):
    def said(teacher):
        text = printed(recipe(f"teacher={teacher}", KD), console)
        return [line for line in text.splitlines() if line.startswith("teacher: ")][-1]

    size = "teacher: smallnet, 14,906 parameters"
    assert said("{use: smallnet}") == f"{size}; random values, as it has no `weights:`"
    assert said(f"{{use: smallnet, weights: {teacher_run}}}") == f"{size}; weights of {teacher_run}"
    published = said("{use: tests.toys.published, pretrained: true}")
    assert published == "teacher: tests.toys.published, 690 parameters; published weights"


def test_a_teachers_recipe_that_a_run_would_refuse_is_refused(recipe, console):
    recipe(name="first")
    teacher = (
        "teacher={use: smallnet, kernel_size: 7, weights: runs/digits/first, recipe: first.yaml}"
    )
    with pytest.raises(ValueError, match=r"first.yaml would train smallnet with {}: make the two"):
        dry_run(recipe(teacher, KD), console)


def test_a_slow_network_is_tried_for_fewer_steps(recipe, console, monkeypatch):
    steps = []
    step = StageRunner.step
    monkeypatch.setattr(StageRunner, "step", lambda *a: steps.append(0) or step(*a))
    printed(recipe(), console)
    assert len(steps) == 6
    monkeypatch.setattr("kdx.commands.trials.PATIENCE", 0.0)
    printed(recipe(), console)
    assert len(steps) == 6 + 2


def test_the_stages_fit_a_narrow_terminal(recipe, monkeypatch):
    monkeypatch.setattr("kdx.commands.trials._seconds_per_step", lambda runtime, runner: 0.02)
    console = Console(file=io.StringIO(), width=80)
    losses = "[{use: cross_entropy, weight: 0.1}, {use: kd, weight: 0.9}]"
    what = recipe(f"losses={losses}", "teacher={use: smallnet, memo: false}", EXPAND,
                  "stages=[{phase: nonlinear, epochs: 9000}, {phase: linear}]")  # fmt: skip
    lines = printed(what, console).splitlines()
    row = next(n for n, line in enumerate(lines) if line.split()[:1] == ["nonlinear"])
    assert lines[row].split()[1:5] == ["0.1", "cross_entropy", "9000", "36,000"]
    assert lines[row].rstrip()[-2:] == " s"
    assert lines[row + 1].split() == ["+", "0.9", "kd"]


def test_every_stage_is_tried(recipe, console):
    stages = (
        "stages=[{phase: linear, epochs: 2}, {name: guided, losses: "
        "[{use: pkt, student_layer: conv3, teacher_layer: fc1}]}]"
    )
    text = printed(recipe(EXPAND, stages, "teacher.use=smallnet"), console)
    rows = [line.split()[:5] for line in text.splitlines()]
    assert ["linear", "1", "cross_entropy", "2", "8"] in rows
    assert ["guided", "1", "pkt", "1", "4"] in rows
    assert "guided: its losses do not reach " in text
    assert "such as student.bn3.weight" in text


def test_what_a_run_would_refuse_is_refused(recipe, console):
    with pytest.raises(ValueError, match=r"student: forward failed on images of \[1, 32, 32\]"):
        dry_run(recipe("student.in_channels=3"), console)


def test_notes_on_the_data_are_printed(recipe, console, monkeypatch):
    noted = replace(digits(), notes=["digits: 1 of 1,797 [files] left out"])
    monkeypatch.setitem(TABLE, "digits", lambda: noted)
    assert "note: digits: 1 of 1,797 [files] left out\n" in printed(recipe(), console)


def test_features_are_printed_with_their_shapes_and_layouts(recipe, console):
    hint = "losses=[{use: hint, student_layer: conv3, teacher_layer: map}]"
    lines = printed(recipe("teacher={use: tests.toys.ChannelsLast}", hint), console).splitlines()
    assert "features of the student: conv3 [B, 32, 4, 4]" in lines
    assert "features of the teacher: map [B, 6, 8, 8] (from bhwc)" in lines
