"""Clipping against torch's and timm's functions, and what it must not hide."""

from copy import deepcopy

import pytest
import torch
from timm.utils.agc import adaptive_clip_grad
from torch import nn

from kdx.recipe import RecipeError
from kdx.recipe.optimizing import Clip
from kdx.training.clipping import clip_gradients
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner
from kdx.util.errors import TrainingError


def network():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2))
    made(torch.randn(5, 1, 4, 4)).square().sum().backward()
    return made


def grads(module):
    return [p.grad.clone() for p in module.parameters()]


@pytest.mark.parametrize(
    ("by", "at", "reference"),
    [
        ("value", 0.5, nn.utils.clip_grad_value_),
        ("adaptive", 0.01, adaptive_clip_grad),
    ],
)
def test_gradients_are_clipped_and_their_norm_is_from_before(by, at, reference):
    module, other = network(), network()
    before = torch.cat([g.flatten() for g in grads(module)]).norm()
    norm = clip_gradients([*module.parameters(), nn.Parameter(torch.zeros(1))], Clip(by=by, at=at))
    assert norm.item() == pytest.approx(before.item(), rel=1e-6)
    unclipped = grads(other)
    reference(other.parameters(), at)
    for mine, theirs, raw in zip(grads(module), grads(other), unclipped, strict=True):
        assert torch.equal(mine, theirs)
        assert not torch.equal(mine, raw)


def test_adaptive_clipping_by_its_formula():
    """Brock et al. 2021, equation 3, on each row: G * at * ||W|| / ||G|| if that is shorter."""
    module = network()
    layer, grad = module[2], module[2].weight.grad.clone()
    clip_gradients(list(module.parameters()), Clip(by="adaptive", at=0.01))
    longest = 0.01 * layer.weight.detach().norm(dim=1, keepdim=True)
    expected = grad * (longest / grad.norm(dim=1, keepdim=True)).clamp(max=1)
    assert torch.allclose(layer.weight.grad, expected, rtol=1e-5)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("by", ["value", "adaptive"])
def test_what_is_not_finite_is_noticed(by, bad):
    module = network()
    module[0].weight.grad[0, 0, 0, 0] = bad
    assert not clip_gradients(list(module.parameters()), Clip(by=by, at=1.0)).isfinite()
    assert module[0].weight.grad[0, 0, 0, 0].isnan()
    assert module[2].weight.grad.isfinite().all()


@pytest.mark.parametrize("by", ["value", "adaptive"])
def test_a_step_is_clipped_and_an_infinite_gradient_ends_the_run(recipe, by):
    job = build(recipe(f"clip={{by: {by}, at: 0.001}}", "optimizer={use: SGD, lr: 1}"))
    before = deepcopy(job.student.state_dict())
    runtime = Runtime(job, accelerator_for(job))
    runner = StageRunner(runtime, job.stages[0])
    batch = next(iter(runtime.loader))
    runner.step(batch, len(batch.targets), EpochStats())
    for name, p in job.student.named_parameters():
        moved, most = (p - before[name]).abs(), torch.tensor(0.001)
        if by == "adaptive":
            most = 0.001 * before[name].norm().clamp(min=1e-3)
        assert moved.max() <= most * 1.01 + 1e-7, name
    job.student.fc2.weight.register_hook(lambda grad: grad + float("inf"))
    with pytest.raises(TrainingError, match=r"gradient contains NaN or Inf: student.fc2.weight"):
        runner.step(batch, len(batch.targets), EpochStats())


def test_a_bad_step_is_skipped_where_the_recipe_allows_it(recipe):
    job = build(recipe("clip={by: value, at: 0.1}", "skip_bad_steps=1"))
    runtime = Runtime(job, accelerator_for(job))
    runner, stats = StageRunner(runtime, job.stages[0]), EpochStats()
    before = deepcopy(job.student.state_dict())
    job.student.fc2.weight.register_hook(lambda grad: grad + float("inf"))
    batch = next(iter(runtime.loader))
    runner.step(batch, len(batch.targets), stats)
    assert stats.skipped == 1
    assert all(torch.equal(before[n], value) for n, value in job.student.state_dict().items())


def test_a_number_is_the_norm(recipe):
    assert recipe("clip={by: norm, at: 2}").clip == recipe("clip=2").clip == 2.0
    assert recipe("clip={by: value, at: 2}").clip == Clip(by="value", at=2.0)
    with pytest.raises(RecipeError, match="'vale' is not 'norm', 'value' or 'adaptive'"):
        recipe("clip={by: vale, at: 2}")
    for by, at in (("adaptive", r"0\.01"), ("value", r"0\.5"), ("norm", "1")):
        with pytest.raises(RecipeError, match=rf"'{by}' needs a limit: {{by: {by}, at: {at}}}$"):
            recipe(f"clip={by}")
    with pytest.raises(RecipeError, match="clip: 'x' is not a number"):
        recipe("clip=x")
