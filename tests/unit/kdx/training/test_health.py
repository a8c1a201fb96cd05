from functools import partial

import pytest
import torch
from torch import nn

from kdx.training.health import GRADIENT, Health, is_finite
from kdx.training.job import build
from kdx.training.log import RunLog
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner
from kdx.util.errors import TrainingError

FINE = torch.tensor(1.0)


@pytest.fixture
def health():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network(torch.ones(2, 2)).sum().backward()
    return Health(network, place="stage 'train', rank 1")


def spoil(tensor):
    with torch.no_grad():
        tensor.view(-1)[0] = float("nan")


def test_what_is_finite_passes(health):
    health.observe(3, 2, {"kd": FINE, GRADIENT: FINE})
    health.check(2)
    health.check_weights()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_is_named_with_step_and_rank(health, value):
    where = r"\(stage 'train', rank 1; step 3 of epoch 2\): lower the"
    said = rf"^training diverged: non-finite loss 'kd': {value} {where}"
    with pytest.raises(TrainingError, match=said):
        health.observe(3, 2, {"ce": FINE, "kd": torch.tensor(float(value)), GRADIENT: FINE})


def test_a_gradient_is_named_with_its_layer(health):
    spoil(health.objective[0].bias.grad)
    with pytest.raises(
        TrainingError, match=r"gradient contains NaN or Inf: 0\.bias .*step 3 of epoch 2\)"
    ):
        health.observe(3, 2, {"ce": FINE, GRADIENT: FINE * float("nan")})


def test_a_norm_that_overflows_is_no_fault(health):
    health.observe(3, 2, {"ce": FINE, GRADIENT: FINE * float("inf")})


def test_a_weight_is_named_as_the_cause(health):
    spoil(health.objective[0].weight)
    said = r"loss 'ce': nan, weights contain NaN or Inf already: 0\.weight"
    with pytest.raises(TrainingError, match=said):
        health.observe(3, 2, {"ce": FINE * float("nan"), GRADIENT: FINE})


def test_weights_and_buffers_are_checked_before_a_checkpoint(health):
    spoil(health.objective[1].running_mean)
    said = r"weights contain NaN or Inf: 1\.running_mean \(stage 'train', rank 1; no checkpoint"
    with pytest.raises(TrainingError, match=said):
        health.check_weights()


def test_elsewhere_than_on_the_cpu_the_first_bad_step_is_read_later(health):
    """The same on a device: what `observe` puts down there, `check` reads."""
    for step, value in ((1, 1.0), (2, float("inf")), (3, float("nan"))):
        scalars = {"ce": FINE, "kd": torch.tensor(value)}
        health.note(step, scalars)
    with pytest.raises(TrainingError, match=r"loss 'kd': nan .*step 2 of epoch 5, noticed later"):
        health.check(5)
    health.check(5)


def test_a_norm_that_overflowed_elsewhere_is_no_fault(health):
    health.note(1, {"ce": FINE, GRADIENT: FINE * float("inf")})
    health.check(1)


def test_a_mask_may_be_infinite(recipe):
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    Health(network, place="stage 'train'").check_weights()


@pytest.fixture
def runner(recipe):
    """Return a function: overrides to the runner of the first stage, and its first batches."""

    def runner(*overrides):
        job = build(recipe("optimizer={use: SGD, lr: 0.1}", *overrides))
        runner = StageRunner(Runtime(job, accelerator_for(job)), job.stages[0])
        return runner, list(runner.runtime.loader)

    return runner


def poison(batch):
    return batch._replace(images=batch.images * float("nan"))


def test_bad_steps_are_left_out_and_counted_where_the_recipe_allows_it(runner):
    """The student, its BatchNorm and the sums are those of the steps that were good."""
    (one, batches), (other, _) = runner("skip_bad_steps=2"), runner()
    tallies = EpochStats(), EpochStats()
    for step, batch in enumerate((batches[0], poison(batches[1]), poison(batches[1]), batches[2])):
        one.step(batch, 16, tallies[0], number=step + 1)
    for batch in (batches[0], batches[2]):
        other.step(batch, 16, tallies[1])
    assert (tallies[0].skipped, tallies[0].in_row) == (2, 0)
    assert (tallies[0].samples, tallies[0].seen) == (32, 32)
    assert tallies[0].sums == tallies[1].sums
    states = [runner.objective.state_dict() for runner in (one, other)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_too_many_in_a_row_end_the_run(runner):
    runner, batches = runner("skip_bad_steps=1")
    stats = EpochStats()
    runner.step(poison(batches[0]), 16, stats)
    said = r"NaN or Inf: student\.conv1.*step 2 of epoch 1, 2 steps in a row; skip_bad_steps is 1"
    with pytest.raises(TrainingError, match=said):
        runner.step(poison(batches[0]), 16, stats, number=2)


def test_an_epoch_of_nothing_but_bad_steps_ends_the_run(runner, tmp_path, console, monkeypatch):
    runner, batches = runner("skip_bad_steps=9")
    runner.runtime.loader = [poison(batch) for batch in batches]
    log = RunLog(tmp_path, console, epochs=1)
    with pytest.raises(TrainingError, match=r"every gradient .*; all steps of epoch 1 were"):
        runner.run(0, 0, log)
    log.close()


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_the_scaler_of_fp16_skips_and_is_counted(recipe, optimizer):
    """On the CPU Accelerate has no fp16, so that its scaler is put there by hand."""
    job = build(recipe(f"optimizer={{use: {optimizer}, lr: 0.01}}"))
    runtime = Runtime(job, accelerator_for(job))
    runtime.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    runner, stats = StageRunner(runtime, job.stages[0]), EpochStats()
    batches = list(runtime.loader)
    runner.step(batches[0], 16, stats)
    before = [p.detach().clone() for p in runner.trained]
    runner.step(poison(batches[1]), 16, stats)
    assert (stats.skipped, stats.in_row, stats.samples) == (1, 1, 16)
    assert all(torch.equal(p, old) for p, old in zip(runner.trained, before, strict=True))
    runner.step(batches[2], 16, stats)
    assert (stats.skipped, stats.in_row, stats.samples) == (1, 0, 32)
    assert runner.may_skip == 20


@pytest.mark.parametrize("by", ["value", "adaptive"])
def test_under_the_scaler_gradients_are_unscaled_before_they_are_clipped(recipe, monkeypatch, by):
    """As Accelerate does it in fp16, which it does not have on the CPU; and bad steps are seen."""
    job = build(recipe(f"clip={{by: {by}, at: 0.5}}", "optimizer={use: SGD, lr: 0.1}"))
    runtime, states = Runtime(job, accelerator_for(job)), []
    start = {name: value.clone() for name, value in job.student.state_dict().items()}
    for scaled in (False, True):
        job.student.load_state_dict(start)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
        runtime.accelerator.scaler = scaler
        runner, stats = StageRunner(runtime, job.stages[0]), EpochStats()
        if scaler is not None:
            inner = runner.optimizer.optimizer
            unscale = partial(scaler.unscale_, inner)
            monkeypatch.setattr(runtime.accelerator, "unscale_gradients", unscale)
        batches = list(runtime.loader)
        runner.step(batches[0], 16, stats)
        states.append([p.detach().clone() for p in runner.trained])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*states, strict=True))
    runner.step(poison(batches[1]), 16, stats)
    assert (stats.skipped, stats.in_row, stats.samples) == (1, 1, 16)
    assert all(torch.equal(p, old) for p, old in zip(runner.trained, states[1], strict=True))


def test_otherwise_the_first_ends_it(runner):
    runner, batches = runner()
    with pytest.raises(TrainingError, match=r"non-finite loss .*'train'; step 7 of"):
        runner.step(poison(batches[0]), 16, EpochStats(), number=7)


def test_outputs_are_finite_but_for_masked_classes():
    outputs = torch.zeros(3, 4, 2)
    assert is_finite(outputs)
    outputs[:, 1] = float("-inf")
    assert is_finite(outputs)
    for bad in ("nan", "inf", "-inf"):
        spoilt = outputs.clone()
        spoilt[2, 3, 0] = float(bad)
        assert not is_finite(spoilt)
