"""Training that is diagnosed: the run is the same, and its log has the numbers."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch._functorch import config as functorch

from kdx.training.job import build
from kdx.training.log import RunLog
from kdx.training.runtime import Runtime, accelerator_for, caller_unchanged
from kdx.training.stage import EpochStats, StageRunner

EXPANDED = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]"
LOSSES = (
    "losses=[{use: kd, weight: 0.5}, {use: cross_entropy, weight: 0.25},"
    " {use: hint, student_layer: fc1, teacher_layer: relu_fc1, weight: 2},"
    " {use: pkt, student_layer: fc1, teacher_layer: relu_fc1, weight: 0}]"
)


@pytest.fixture
def trained(recipe, teacher_run):
    """Return a function: overrides to the runner, after an epoch, its statistics and its job."""

    def trained(*overrides, prepare=lambda runtime: None):
        job = build(recipe(f"teacher={{use: smallnet, weights: {teacher_run}}}", *overrides))
        torch.manual_seed(1)
        runtime = Runtime(job, accelerator_for(job))
        prepare(runtime)
        runner, stats = StageRunner(runtime, job.stages[0]), EpochStats()
        runner.objective.enter(0)
        for step, batch in enumerate(runtime.loader):
            runner.step(batch, runtime.batches.size(step), stats, number=step + 1)
        return runner, stats

    return trained


def state(runner):
    """Return copies of all tensors that training changes, and of the random state."""
    objective, optimizer = runner.objective.state_dict(), runner.optimizer.state_dict()["state"]
    momentum = {f"{i}.{k}": v for i, each in optimizer.items() for k, v in each.items()}
    grown = {**objective, **momentum, "random": torch.get_rng_state()}
    return {k: deepcopy(v) for k, v in grown.items() if isinstance(v, torch.Tensor)}


BYTES = {
    "expanded, with a regressor, in parts": (EXPANDED, "accumulate=3", "data.limit=58"),
    "dropout, crops, skipping": (
        "student={use: tests.toys.dropping}", "losses=[{use: cross_entropy}, {use: kd}]",
        "data.augment={crop: 2}", "skip_bad_steps=1",
    ),
    "half precision": ("precision=bf16",),
    "no memo, clipped": ("teacher.memo=false", "clip=0.5"),
}  # fmt: skip


@pytest.mark.parametrize("case", BYTES)
def test_the_run_is_the_same_to_the_byte(trained, case):
    what = (LOSSES, "optimizer={use: AdamW, lr: 0.01}", *BYTES[case])
    (off, none), (on, some) = trained(*what), trained(*what, "diagnose=1")
    assert none.diagnosed == {}
    assert all(len(values) == 4 for values in some.diagnosed.values())
    one, other = state(off), state(on)
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(none.sums[name], some.sums[name]) for name in none.sums)


def test_the_task_is_the_first_term_that_reads_no_teacher(trained):
    runner, stats = trained(LOSSES, "diagnose=9")
    assert runner.diagnostics.task == "cross_entropy"
    terms = ["kd", "cross_entropy", "hint", "pkt"]
    assert [k[9:] for k in stats.diagnosed if k.startswith("gradient/")] == terms
    assert [k[7:] for k in stats.diagnosed if k.startswith("cosine/")] == ["kd", "hint", "pkt"]
    taught = "{use: kd}, {use: cross_entropy, weight: 0}"  # never trained on
    assert trained(f"losses=[{taught}]")[0].diagnostics.task == "kd"


def test_gradients_are_on_the_factors_of_an_expanded_student(trained):
    runner, stats = trained(LOSSES, EXPANDED, "diagnose=9")
    factors = [p for n, p in runner.objective.student.named_parameters() if ".factors." in n]
    assert factors
    assert {id(p) for p in runner.diagnostics.parameters} == {
        id(p) for p in runner.objective.student.parameters()
    }
    assert all(value > 0 for k, (value,) in stats.diagnosed.items() if k.startswith("gradient/"))


def test_accumulation_finds_the_same(trained):
    losses = "losses=[{use: cross_entropy}, {use: kd}]"
    plain = ("student={use: tests.toys.plain}", losses, "diagnose=9", "data.limit=58")
    (_, whole), (_, parted) = trained(*plain), trained(*plain, "accumulate=3")
    assert whole.diagnosed.keys() == parted.diagnosed.keys()
    for key, values in whole.diagnosed.items():
        assert parted.diagnosed[key] == pytest.approx(values, rel=1e-4), key


def test_a_skipped_step_is_not_recorded(trained):
    runner, _ = trained(LOSSES, "skip_bad_steps=1", "diagnose=1")
    stats, batch = EpochStats(), next(iter(runner.runtime.loader))
    runner.step(batch._replace(images=batch.images * float("nan")), 16, stats, number=1)
    assert (stats.skipped, stats.diagnosed) == (1, {})
    runner.step(batch, 16, stats, number=2)
    assert len(stats.diagnosed["gradient/kd"]) == 1


def test_a_compiled_student_is_diagnosed(trained, monkeypatch):
    """By the backend that needs no C++ compiler."""
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: original(self, backend="aot_eager"))
    losses = "losses=[{use: cross_entropy}, {use: kd}]"
    what = ("student={use: tests.toys.plain}", losses, "diagnose=9", "data.limit=16")
    _, plain = trained(*what)
    assert functorch.donated_buffer
    with caller_unchanged():
        _, compiled = trained(*what, "compile=true", prepare=lambda runtime: runtime.compile())
        assert not functorch.donated_buffer  # saved tensors are read by several backward passes
    assert functorch.donated_buffer
    for key, values in plain.diagnosed.items():
        assert compiled.diagnosed[key] == pytest.approx(values, rel=1e-3, abs=1e-4), key


def test_an_epoch_logs_what_was_diagnosed(trained, tmp_path, console):
    runner, _ = trained(LOSSES, "diagnose=2")
    log = RunLog(tmp_path, console, epochs=1)
    values, stats = runner.run(0, 0, log, stats=(stats := EpochStats())), stats
    log.close()
    assert len(stats.diagnosed["gradient/hint"]) == 2  # steps 1 and 3 of 4
    expected = {
        *(f"gradient/{name}" for name in ("kd", "cross_entropy", "hint", "pkt")),
        *(f"{what}/{name}" for what in ("cosine", "suggested") for name in ("kd", "hint", "pkt")),
    }
    assert {k for k in values if k.startswith(("gradient/", "cosine/", "suggested/"))} == expected
    ratio = 0.25 * values["gradient/cross_entropy"] / values["gradient/pkt"]
    assert values["suggested/pkt"] == pytest.approx(ratio, rel=0.05)
    assert not {k for k in trained(LOSSES)[0].run(0, 0, log) if k.startswith("gradient/")}
