import pytest

from kdx.dry_run import dry_run

KD = "losses=[{use: kd}]"
EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]"


def printed(recipe, console):
    dry_run(recipe, console)
    assert not recipe.run_dir.exists()
    return console.file.getvalue()


def test_it_prints_plan_stages_and_cost_and_writes_nothing(recipe, console):
    text = printed(recipe(EXPAND, "epochs=3", "data.validation=32"), console)
    assert "digits/plain: dry run" in text
    assert "data: digits, 1 x 32 x 32, 10 classes: 64 training, 32 validation, 64 test" in text
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
    assert "rehearsal: restored, the student is the compact network again, within " in text
    assert text.rstrip().endswith("runs/digits/plain")


def test_a_teacher_without_weights_is_tried_with_random_ones(recipe, console):
    teacher = "teacher={use: smallnet, weights: runs/digits/first, recipe: first.yaml}"
    recipe(name="first")
    text = printed(recipe(teacher, KD), console)
    assert "teacher: no weights at " in text
    assert "trained first by " in text
    assert "digits/first.yaml" in text


def test_a_teacher_that_nothing_trains_would_stop_the_run(recipe, console):
    text = printed(recipe(KD, "teacher={use: smallnet, weights: runs/digits/first}"), console)
    assert "trained first by nothing: the run would stop here" in text


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
    with pytest.raises(ValueError, match=r"student: it cannot take images of \[1, 32, 32\]"):
        dry_run(recipe("student.in_channels=3"), console)
