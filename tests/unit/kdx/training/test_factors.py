"""The decay and the rate of the factors that a transform makes of a layer."""

import pytest
import torch
import torch.nn.functional as F

import expand
from kdx.training.job import build
from kdx.training.optimizers import product_decay
from tests.unit.kdx.training.stepped import assert_same, one_step

EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]"


def test_factors_have_a_rate_of_their_own(recipe):
    said = "optimizer={use: SGD, lr: 0.8, factor_lr: 0.25, groups: [{match: conv1.bias, lr: 3}]}"
    *_, runner, _ = one_step(recipe, EXPAND, said)
    rates = {id(p): group["lr"] for group in runner.optimizer.param_groups for p in group["params"]}
    for name, parameter in runner.objective.student.named_parameters():
        rate = 0.2 if ".factors." in name else 0.8
        grouped = name.startswith("conv1.factors.") and name.endswith("bias")
        assert rates[id(parameter)] == pytest.approx(3 if grouped else rate), name


def test_a_rate_of_factors_without_factors_is_noted(recipe):
    said = "optimizer={use: SGD, lr: 0.8, factor_lr: 0.25}"
    assert not any("factor_lr" in note for note in build(recipe(EXPAND, said)).notes)
    for transforms in ("student.transforms=[]", "student.transforms=[{use: expand.DBB}]"):
        assert any(
            "factor_lr: no layer is" in note for note in build(recipe(transforms, said)).notes
        )


def test_decay_of_the_product_is_that_of_the_compact_layer(recipe):
    """The gradient on each product W is greater by decay * W; the factors' follow by the chain."""
    said = "optimizer={use: SGD, lr: 0.1, weight_decay: 0.5, decay: product, no_decay: [bias]}"
    before, after, runner, (images, targets, _) = one_step(recipe, EXPAND, said)
    before.train()
    folded = [unit.fold(torch.float32)[0] for _, unit in expand.units(before)]
    penalty = sum(0.25 * weight.square().sum() for weight in folded)
    (F.cross_entropy(before(images), targets) + penalty).backward()
    decayed = {"bn1.weight", "bn2.weight", "bn3.weight", "fc2.weight"}  # fc2 is not expanded
    with torch.no_grad():
        for name, p in before.named_parameters():
            p -= 0.1 * (p.grad + 0.5 * p * (name in decayed))
    assert_same(before, after, atol=1e-6)
    assert {group["weight_decay"] for group in runner.optimizer.param_groups} == {0.0, 0.5}


def test_decay_of_the_product_counts_once_in_an_accumulated_batch(recipe):
    said = "optimizer={use: SGD, lr: 0.1, weight_decay: 0.5, decay: product}"
    plain = "student={use: tests.toys.plain, transforms: [{use: expand.ExpandNet, linear: true}]}"
    _, whole, *_ = one_step(recipe, plain, said)
    _, parts, *_ = one_step(recipe, plain, said, "accumulate=4")
    _, without, *_ = one_step(recipe, plain, "optimizer={use: SGD, lr: 0.1}")
    assert_same(whole, parts, atol=1e-6)
    with pytest.raises(AssertionError, match="factors"):
        assert_same(whole, without, atol=1e-4)


def test_the_decay_of_a_product_in_figures():
    products = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([2.0])}
    assert product_decay({"a": 0.1, "b": 1.0}, products).item() == pytest.approx(0.1 * 25 / 2 + 2)
