"""Where an objective runs on leaves, a batch in parts makes one product and learns the same."""

from contextlib import closing
from copy import deepcopy

import pytest
import torch
from torch import nn

import expand
from kdx.training.job import build
from kdx.training.leaves import Detached, leaves_of
from kdx.training.log import RunLog
from kdx.training.objective import Objective
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner
from kdx.training.terms import Term
from tests.unit.kdx.training.test_speed_options import largest_difference

CHAINS = "{use: expand.ExpandNet, conv: cl, linear: true}"
EXPANDED = f"student.transforms=[{CHAINS}]"


@pytest.mark.parametrize(
    ("more", "world", "leaves"),
    [
        (("accumulate=2",), 1, 1),
        ((), 1, 0),
        ((), 2, 1),
        pytest.param(("compile=true",), 2, 0, marks=pytest.mark.long),
        (("accumulate=2", "compile=true"), 1, 0),
        (("accumulate=2", "student.transforms=[]"), 2, 0),
    ],
    ids=["parts", "whole batches", "processes", "both compiled", "compiled", "not expanded"],
)
def test_where_there_are_leaves(recipe, more, world, leaves):
    job = build(recipe(EXPANDED, *more))
    runtime = Runtime(job, accelerator_for(job))
    runtime.world = world
    assert len(leaves_of(runtime, job.student)) == leaves


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("clip=0.5", "diagnose=1"),
        ("optimizer.decay=product", "optimizer.weight_decay=0.01"),
        ("average={use: ema, decay: 0.5}",),
        (f"student.transforms=[{CHAINS}, {{use: quantize.QAT}}]",),
    ],
    ids=["plain", "clipped and diagnosed", "decay of products", "average", "for int8"],
)
def test_parts_of_a_batch_share_a_product_and_learn_the_same(recipe, monkeypatch, more):
    fits: list[dict[str, torch.Tensor]] = []
    made: list[int] = []
    for leaves in (leaves_of, lambda *_: []):
        monkeypatch.setattr("kdx.training.stage.leaves_of", leaves)
        job = build(recipe(EXPANDED, "accumulate=4", *more))
        runtime = Runtime(job, accelerator_for(job))
        runner = StageRunner(runtime, job.stages[0])
        fold, folds = job.student.conv1._fold_now, []
        job.student.conv1._fold_now = lambda fold=fold, folds=folds: folds.append(1) or fold()
        for _ in range(3):
            runner.step(next(iter(runtime.loader)), runtime.batches.size(0), EpochStats())
        made.append(len(folds))
        del job.student.conv1._fold_now
        fits.append(deepcopy(job.student.state_dict()))
    assert largest_difference(*fits) < 1e-5
    assert made[0] < made[1]


def test_processes_share_the_factors_before_a_teacher_averages_them(recipe, monkeypatch):
    """DDP, which makes others equal when it wraps them, ignores them."""
    done: list[str] = []
    monkeypatch.setattr(Runtime, "share", lambda self, given: done.append(f"shares {len(given)}"))
    monkeypatch.setattr(Runtime, "follow", lambda self, averages: done.append("averages"))
    teacher = ("teacher={use: ema}", "losses=[{use: cross_entropy}, {use: kd}]")
    job = build(recipe(EXPANDED, "accumulate=2", *teacher))
    runner = StageRunner(Runtime(job, accelerator_for(job)), job.stages[0])
    assert runner.detached.replaced
    assert done == [f"shares {len(runner.detached.replaced)}", "averages"]


def test_factors_that_two_layers_share_are_found():
    layers = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    student = expand.expand(layers, "cl", rate=2)
    student[1].factors[2].bias = student[0].factors[2].bias
    objective = Objective(student, [Term("size", 1.0, lambda *_: torch.zeros(()), "losses[0]")])
    leaves = expand.Leaves(student)
    detached = Detached(objective, [leaves])
    found = dict(zip(leaves.replaced, detached.replaced, strict=True))
    assert found["1.factors.2.bias"] is found["0.factors.2.bias"]


def test_an_epoch_starts_with_the_factors_of_rank_0(recipe, console, monkeypatch):
    shared: list[list[torch.Tensor]] = []
    monkeypatch.setattr(Runtime, "share", lambda self, tensors: shared.append([*tensors]))
    job = build(recipe(EXPANDED, "accumulate=2"))
    runner = StageRunner(Runtime(job, accelerator_for(job)), job.stages[0])
    shared.clear()
    job.recipe.run_dir.mkdir(parents=True)
    with closing(RunLog(job.recipe.run_dir, console, epochs=1)) as log:
        runner.run(0, 0, log)
    factors = {id(p) for name, p in job.student.named_parameters() if ".factors." in name}
    assert {id(each) for each in shared[0]} == factors
