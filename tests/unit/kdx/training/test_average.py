"""The average of the student's compact weights: followed, evaluated, exported."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kdx.models.average import average_of
from kdx.models.transforms import restore
from kdx.recipe import RecipeError
from kdx.report.summary import read_summary
from kdx.run.run import run
from kdx.training.job import build
from kdx.training.runtime import OWN, Runtime, accelerator_for
from kdx.training.stage import StageRunner
from kdx.training.state import TrainState
from tests.unit.runs import EXPAND, SGD, contents

HELD_OUT = "data.validation=32"


@pytest.fixture
def steps(monkeypatch):
    """Return the compact weights after each step of the runs to come."""
    found, step = [], StageRunner.step

    def recorded(self, *args, **kwargs):
        step(self, *args, **kwargs)
        job = self.runtime.job
        made = restore(job.student, job.transforms)
        found.append({name: value.clone() for name, value in made.state_dict().items()})

    monkeypatch.setattr(StageRunner, "step", recorded)
    return found


def check(weights, expected):
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value.to(weights[name].dtype), msg=name)


@pytest.mark.parametrize("transforms", [(), (EXPAND,)], ids=["compact", "expanded"])
def test_a_moving_average_is_that_of_the_compact_weights_of_every_step(
    recipe, console, steps, transforms
):
    run_dir = run(recipe(*transforms, SGD, "average={use: ema, decay: 0.5}", "epochs=3"), console)
    average = steps[0]
    for number, now in enumerate(steps[1:], 1):
        kept = min(0.5, (1 + number) / (10 + number))
        average = {
            n: kept * v + (1 - kept) * now[n] if v.is_floating_point() else now[n]
            for n, v in average.items()
        }
    assert len(steps) == 12
    check(contents(run_dir), average)
    certificate = json.loads((run_dir / "certificate.json").read_text())
    assert certificate["holds"]
    assert (certificate["parameters"]["trained"] > certificate["parameters"]["compact"]) == bool(
        transforms
    )
    summary = read_summary(run_dir)
    assert summary.exported == "average"
    assert summary.average == summary.test  # without validation images, and evaluated on the test's
    said = console.file.getvalue()
    assert "it is the average of the student's compact weights" in said
    is_worse = summary.last["top1"] > summary.average["top1"]
    assert ("the student itself reached" in said) == is_worse
    report = re.sub(" +", " ", (run_dir / "report.md").read_text())
    assert "| average (exported) | test" in report


def test_a_student_that_is_better_than_its_average_is_named(recipe, console):
    adam = "optimizer={use: AdamW, lr: 0.01}"
    summary = read_summary(
        run(recipe(adam, "average={use: ema, decay: 0.999}", "epochs=3"), console)
    )
    assert summary.last["top1"] > summary.average["top1"]
    said = f"the student itself reached {100 * summary.last['top1']:.2f}%: with data.validation"
    assert said in console.file.getvalue()


def test_an_average_of_epochs_weighs_them_equally(recipe, console, steps):
    average = "average={use: swa, start: 0.5}"
    run_dir = run(recipe(EXPAND, SGD, average, "epochs=4"), console)
    ends = [steps[index] for index in (11, 15)]
    expected = {n: (v + ends[1][n]) / 2 for n, v in ends[0].items() if v.is_floating_point()}
    found = contents(run_dir)
    check({name: found[name] for name in expected}, expected)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert ["test_average/top1" in line for line in lines] == [False, False, True, True]


@pytest.mark.parametrize("select", ["last", "best"])
def test_the_better_one_on_the_validation_images_is_exported(recipe, console, select):
    """A decay near 1 keeps the first weights, which are worse than the last."""
    slow = ("average.decay=0.9999999", "epochs=4", f"select={select}", HELD_OUT, SGD)
    run_dir = run(recipe("average.use=ema", *slow), console)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    pairs = [(line["validation/top1"], line["validation_average/top1"]) for line in lines]
    summary = read_summary(run_dir)
    best = max(range(4), key=lambda index: max(pairs[index]))
    chosen = pairs[best] if select == "best" else pairs[-1]
    assert summary.exported == ("average" if chosen[1] >= chosen[0] else "student")
    assert summary.best["top1"] == max(pairs[best])
    best_of = "average" if pairs[best][1] >= pairs[best][0] else "student"
    report = re.sub(" +", " ", (run_dir / "report.md").read_text())
    assert f"| {best_of}, best epoch ({best + 1}) |" in report
    assert f"{best_of}, best epoch ({best + 1})" in (run_dir / "report.html").read_text()
    state = load_file(run_dir / "checkpoints" / f"epoch_{best + 1:04d}" / "averages.safetensors")
    if select == "best" and summary.exported == "average":
        name = "student average.module.fc1.weight"
        assert torch.equal(state[name], contents(run_dir)["fc1.weight"])


def test_a_nonlinear_phase_is_not_averaged(recipe, console):
    stages = "stages=[{phase: nonlinear, epochs: 1}, {phase: linear, epochs: 1}]"
    run_dir = run(recipe(EXPAND, SGD, stages, "average={use: ema}"), console)
    first, second = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    assert "test_average/top1" not in first
    assert "test_average/top1" in second


@pytest.mark.parametrize(
    ("average", "message"),
    [
        ("{use: swa, decay: 0.9}", "swa weighs all epochs equally: remove `decay`, or use ema"),
        ("{use: ema, decay: 1.0}", "1.0 should be less than 1"),
        ("{use: mean}", "'mean' is not 'ema' or 'swa'"),
    ],
)
def test_problems(recipe, average, message):
    with pytest.raises(RecipeError, match=message):
        recipe(f"average={average}")


def test_an_average_that_never_starts_is_refused(recipe):
    message = r"average\.start: 3 is after the last epoch of a run of 3 epochs: nothing would be"
    with pytest.raises(ValueError, match=message):
        build(recipe("average={use: swa, start: 3}", "epochs=3"))
    build(recipe("average={use: swa, start: 2}", "epochs=3"))
    build(recipe("average={use: swa}", "epochs=1"))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_an_average_of_a_student_with_weight_norm(recipe):
    student = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(4, 2)))
    student(torch.randn(2, 4)).sum().backward()
    average = average_of(student, recipe("average={use: ema}").average)
    average.update_parameters(student)
    assert torch.equal(average.module[1].weight_v, student[1].weight_v)


def test_an_average_is_of_the_statistics_that_all_processes_have(recipe, monkeypatch):
    """Those of the branches' BatchNorms are each process's own, and weights are made of them."""
    job = build(recipe("student.transforms=[{use: expand.DBB}]", "average={use: ema}", SGD))
    runtime = Runtime(job, accelerator_for(job))
    own = [b for b in job.student.buffers() if b.is_floating_point()]
    of_rank_0 = [b + torch.rand_like(b) for b in own]

    def share(tensors):
        for tensor in tensors:
            for buffer, value in zip(own, of_rank_0, strict=True):
                if tensor is buffer:
                    tensor.copy_(value)

    monkeypatch.setattr(runtime, "share", share)
    runtime.follow([runtime.average])  # the first time, an average is what it follows
    for buffer, value in zip(own, of_rank_0, strict=True):
        buffer.copy_(value)
    expected = restore(job.student, job.transforms).state_dict()
    check(runtime.average.module.state_dict(), expected)


def test_an_average_of_tied_weights_is_saved(recipe, console):
    done = run(recipe("student.use=tests.toys.tied", "average={use: ema}", "epochs=1"), console)
    state, _ = TrainState.newest(done)
    assert torch.equal(*(state.averages[f"{OWN}.module.{n}.weight"] for n in (0, 2)))
