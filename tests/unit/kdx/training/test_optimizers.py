"""Parameter groups, timm's optimizers, clipping and early stopping."""

import json

import pytest
import torch
from timm.optim import Lamb
from timm.utils.agc import adaptive_clip_grad
from torch import nn

from kdx.recipe import RecipeError
from kdx.run.run import run
from kdx.run.summary import read_summary
from kdx.training.groups import compact_name
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner
from tests.unit.runs import EXPAND, SGD

ADAMW = "optimizer={{use: AdamW, lr: 0.01, weight_decay: 0.1, {}}}"


def runner_of(recipe):
    job = build(recipe)
    return StageRunner(Runtime(job, accelerator_for(job)), job.stages[0])


def grouped(recipe, options, *overrides):
    """Return the options of each parameter of the student by its name."""
    runner = runner_of(recipe(ADAMW.format(options), *overrides))
    names = {p: name for name, p in runner.objective.named_parameters()}
    return {
        names[p].removeprefix("student."): (group["lr"], group["weight_decay"])
        for group in runner.optimizer.param_groups
        for p in group["params"]
    }


def test_groups_by_kind_and_pattern(recipe):
    groups = "{match: 'fc*', lr: 0.5}, {match: fc2.weight, weight_decay: 0.3}"
    options = f"no_decay: [norm, bias], groups: [{groups}]"
    found = grouped(recipe, options)
    assert found["conv1.weight"] == (0.01, 0.1)
    assert found["conv1.bias"] == found["bn1.weight"] == found["bn1.bias"] == (0.01, 0.0)
    assert found["fc1.weight"] == (0.5, 0.1)
    assert found["fc1.bias"] == found["fc2.bias"] == (0.5, 0.0)
    assert found["fc2.weight"] == (0.5, 0.3)


def test_an_expanded_layer_has_the_names_of_the_compact_one(recipe):
    options = "no_decay: [bias], groups: [{match: conv1.weight, lr: 0.5}]"
    found = grouped(recipe, options, EXPAND)
    factors = {name: value for name, value in found.items() if name.startswith("conv1.factors")}
    assert len(factors) > 3
    for name, value in factors.items():
        assert value == ((0.01, 0.0) if name.endswith("bias") else (0.5, 0.1))


def test_names(recipe):
    modules = ["", "conv1", "layer.0", "layer.0.conv"]
    assert compact_name("student.conv1.factors.2.weight", modules) == "conv1.weight"
    assert compact_name("student.layer.0.conv.bias", modules) == "layer.0.conv.bias"
    assert compact_name("student.scale", modules) == "scale"
    assert compact_name("adaptors.hint.regressor.weight", modules) == (
        "adaptors.hint.regressor.weight"
    )


def test_a_step_is_that_of_a_hand_built_optimizer(recipe):
    text = "{use: SGD, lr: 0.1, momentum: 0.9, weight_decay: 0.01, no_decay: [norm, bias]}"
    runner = runner_of(recipe(f"optimizer={text}"))
    student = runner.objective.student
    expected = {name: value.detach().clone() for name, value in student.named_parameters()}
    batch = next(iter(runner.runtime.loader))
    seen = {}

    def step(*args, **kwargs):
        seen.update({n: p.grad.clone() for n, p in student.named_parameters()})

    runner.optimizer.register_step_pre_hook(step)
    runner.step(batch, len(batch.targets), EpochStats())
    for name, value in student.named_parameters():
        decay = 0.0 if value.ndim <= 1 else 0.01
        wanted = expected[name] - 0.1 * (seen[name] + decay * expected[name])
        torch.testing.assert_close(value.detach(), wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("groups: [{match: 'fx*', lr: 1}]", r"groups\[0\]: 'fx\*' matches no parameter. Known: "),
        ("groups: [{match: 'fc*', momentum: 1}]", r"groups\[0\]: momentum: unknown argument"),
        ("groups: [{match: 'fc*', lr: -1}]", r"groups\[0\]: lr: -1 should be greater than 0"),
        ("groups: [{match: 'fc*'}]", r"groups\[0\]: give a pattern and options"),
        ("groups: [{lr: 1}]", r"groups\[0\]: give a pattern and options"),
        ("groups: [{match: 'fc*', no_decay: [bias]}]", r"groups\[0\]: no_decay: not in a group"),
        ("no_decay: [norms]", r"'norms' is not 'norm' or 'bias'"),
        ("groups: 3", "3 is not a list"),
    ],
)
def test_problems_of_groups(recipe, options, message):
    with pytest.raises(RecipeError, match=message):
        build(recipe(ADAMW.format(options)))


def test_optimizers_of_timm(recipe, console):
    given = recipe("optimizer={use: timm.lamb, lr: 0.01, no_decay: [bias]}")
    runner = runner_of(given)
    assert isinstance(runner.optimizer, Lamb)
    assert len(runner.optimizer.param_groups) == 2
    run(given, console)
    with pytest.raises(
        RecipeError, match=r"'timm.lamd' is not an optimizer of timm\. Did you mean"
    ):
        recipe("optimizer={use: timm.lamd, lr: 0.01}")
    with pytest.raises(RecipeError, match=r"optimizer\.betta: unknown argument\. Did you mean 'be"):
        recipe("optimizer={use: timm.lamb, lr: 0.01, betta: 1}")


@pytest.mark.parametrize("clip", ["0.01", "{by: norm, at: 0.01}", "{by: value, at: 0.001}",
                                  "{by: adaptive, at: 0.001}"])  # fmt: skip
def test_clipping(recipe, clip):
    gradients = []
    for options in ((), (f"clip={clip}",)):
        runner = runner_of(recipe(SGD, *options))
        batch = next(iter(runner.runtime.loader))
        runner._backward(batch, len(batch.targets), None)
        before = nn.utils.get_total_norm([p.grad for p in runner.trained]).item()
        assert runner._gradient_norm().item() == pytest.approx(before)
        gradients.append([p.grad.clone() for p in runner.trained])
    plain, clipped = gradients
    if "value" in clip:
        expected = [g.clamp(-0.001, 0.001) for g in plain]
    elif "adaptive" in clip:
        for parameter, gradient in zip(runner.trained, plain, strict=True):
            parameter.grad = gradient.clone()
        adaptive_clip_grad(runner.trained[:-2], 0.001)
        expected = [p.grad for p in runner.trained]
    else:
        expected = [g * min(1, 0.01 / (before + 1e-6)) for g in plain]
    torch.testing.assert_close(clipped, expected)
    assert not all(torch.equal(a, b) for a, b in zip(plain, clipped, strict=True))


@pytest.mark.parametrize("clip", ["{by: norm}", "{by: norms, at: 1}", "-1", "{by: value, at: 0}"])
def test_problems_of_clipping(recipe, clip):
    with pytest.raises(RecipeError, match=r"clip"):
        recipe(f"clip={clip}")


def test_it_stops_without_improvement(recipe, console):
    """A learning rate of almost 0 improves nothing after the first epoch."""
    frozen = "optimizer={use: SGD, lr: 1.0e-12}"
    what = (frozen, "epochs=9", "patience=2", "data.validation=32")
    run_dir = run(recipe(*what), console)
    summary = read_summary(run_dir)
    assert (summary.epochs, summary.best_epoch) == (3, 1)
    assert "note     no better than epoch 1: stopped" in console.file.getvalue()
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 3
    state = json.loads((run_dir / "checkpoints/epoch_0003/state.json").read_text())
    assert state["progress"]["stopped_early"]
    (run_dir / "summary.json").unlink()  # ended between the last checkpoint and the export
    assert read_summary(run(recipe(*what), console, resume=True)).epochs == 3


def test_patience_needs_images_to_be_judged_on(recipe):
    with pytest.raises(RecipeError, match=r"patience: needs `data.validation`"):
        recipe("patience=2")
