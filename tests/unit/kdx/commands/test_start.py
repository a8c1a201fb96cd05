"""How far an expansion starts from the compact network."""

import pytest
import torch

from kdx.commands.start import _starts, start_notes
from kdx.training.job import build

EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, init: INIT}]"


def test_without_a_transform_there_is_nothing_to_compare(recipe):
    assert start_notes(build(recipe())) == []


def test_the_gradients_are_those_of_the_products(recipe):
    """With preserved weights the product's step is the sum over factors of J J^T g."""
    job = build(recipe(EXPAND.replace("INIT", "preserve")))
    compact = dict(_starts(job, job.compact, rewritten=False))
    expanded = dict(_starts(job, job.student, rewritten=True))
    assert compact.keys() == expanded.keys()
    for name, (weight, gradient) in compact.items():
        assert expanded[name][0] == pytest.approx(weight, rel=1e-5)
        if "conv" not in name:  # what is not expanded has its own gradient
            assert expanded[name][1] == pytest.approx(gradient, rel=1e-3)
    before = job.compact.conv3.weight.detach()
    parameter = job.compact.conv3.weight
    assert compact["conv3.weight"][0] == pytest.approx(before.square().mean().sqrt().item())
    assert torch.equal(parameter, before)


def test_a_start_far_away_is_said_with_its_layers(recipe):
    job = build(recipe(EXPAND.replace("INIT", "scaled")))
    assert start_notes(job) == []
    with torch.no_grad():
        for factor in job.student.conv2.factors:
            factor.weight *= 4
    (note,) = start_notes(job)
    assert "are far from the compact network's, times: conv2.weight 64 and " in note
    assert note.endswith("If training diverges, lower the learning rate or rewrite fewer layers")
