"""What the console shows at the beginning and at the end of a run."""

from dataclasses import replace

import pytest

from kdx.run.printed import print_introduction, print_result
from kdx.run.run import run
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from tests.unit.conftest import silent
from tests.unit.kdx.report.test_summary import SUMMARY
from tests.unit.kdx.run.test_report import CERTIFICATE


@pytest.mark.parametrize(
    ("teacher", "is_shown"), [(0.6, True), (0.59, True), (0.61, False), (None, False)]
)
def test_a_teacher_that_is_no_better_than_the_student_is_pointed_out(teacher, is_shown, tmp_path):
    summary = replace(
        SUMMARY,
        best={"top1": 0.7},
        last={"top1": 0.6},  # which is exported
        best_epoch=2,
        exported_epoch=3,
        teacher=None if teacher is None else {"top1": teacher},
    )
    console = silent()
    print_result(summary, CERTIFICATE, None, tmp_path, console)
    printed = " ".join(console.file.getvalue().split())
    said = f"{100 * (teacher or 0):.2f}% top-1 on validation: no better than the student; a better"
    assert (said in printed) == is_shown
    assert ("no better" in printed) == is_shown


@pytest.mark.parametrize("evaluated_on", ["test", "validation"])
def test_an_average_that_is_not_chosen_by_validation_says_what_would(evaluated_on, tmp_path):
    averaged = {"exported": "average", "average": {"top1": 0.5}, "last": {"top1": 0.6}}
    console = silent()
    summary = replace(SUMMARY, **averaged, evaluated_on=evaluated_on)
    print_result(summary, CERTIFICATE, None, tmp_path, console)
    assert ("with data.validation" in console.file.getvalue()) == (evaluated_on == "test")


@pytest.mark.parametrize(("luck", "is_said"), [(0.59, True), (0.0, False), (1.0, False)])
def test_a_student_at_chance_is_pointed_out(luck, is_said, tmp_path):
    console = silent()
    summary = replace(SUMMARY, test={"top1": 0.59})
    print_result(summary, CERTIFICATE, None, tmp_path, console, luck=luck)
    assert ("59.00% is no better than chance" in console.file.getvalue()) == is_said


def test_the_header_says_how_the_student_is_trained(recipe, console):
    job = build(recipe("data.augment={flip: true}", "data.cutmix=1", "clip=2"))
    print_introduction(job, Runtime(job, accelerator_for(job)), console, [])
    text = console.file.getvalue()
    assert "\ntrained  augmentation: flip; mixing: cutmix 1; clipping: norm 2\n" in text
    assert ", 64 test images, 10 classes\n" in text


def test_a_schedule_that_never_acts_is_noted(recipe, console):
    never = "the schedule multistep never lowers the learning rate in 1 epoch of 4 steps"
    units = "milestones and warmup are epochs from 1 on, and fractions of the stage below 1"
    for milestones, said in (("[50, 100]", f"{never}: {units}\n"), ("[0.999]", f"{never}\n")):
        job = build(recipe(f"schedule={{use: multistep, milestones: {milestones}}}"))
        print_introduction(job, Runtime(job, accelerator_for(job)), console, [])
        assert console.file.getvalue().endswith(f"note     train: {said}")
    assert "trained  " not in console.file.getvalue()  # nothing is set
    run(recipe("schedule={use: multistep, milestones: [0.5]}"), console)
    assert console.file.getvalue().count("never lowers") == 2
