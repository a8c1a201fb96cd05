"""Diagnostics of the terms: their numbers are those computed by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdx.training.diagnostics import Diagnostics
from kdx.training.leaves import Detached
from kdx.training.objective import Objective
from kdx.training.terms import Term

BATCH, CLASSES, INPUTS = 5, 3, 4


class Scaler:
    def get_scale(self):
        return 1024.0


def runtime(scaler=None):
    return SimpleNamespace(
        accelerator=SimpleNamespace(scaler=scaler, reduce=lambda value, how: value)
    )


def squares(student, teacher, target):
    return student.logits.square().mean()


def linear(student, teacher, target):
    return student.logits[:, 0].sum()


def constant(student, teacher, target):
    return torch.ones((), dtype=torch.float64)


def infinite(student, teacher, target):
    return student.logits.sum() * torch.inf


@pytest.fixture
def objective():
    """Return a function: weights to an objective on a linear layer in float64."""

    def objective(*weights, losses=(squares, linear), **more):
        torch.manual_seed(0)
        student = nn.Linear(INPUTS, CLASSES).double()
        terms = [
            Term(loss.__name__, weight, loss, loss.__name__)
            for loss, weight in zip(losses, weights, strict=True)
        ]
        return Objective(student, terms, **more)

    return objective


def measured(objective, scaler=None, parts=1):
    """Return what is found on one batch, and the summary."""
    images = torch.randn(BATCH, INPUTS, dtype=torch.float64, generator=torch.manual_seed(1))
    diagnostics = Diagnostics(runtime(scaler), Detached(objective), every=1)
    diagnostics.start(1)
    for part in images.tensor_split(parts):
        total, terms = objective(part, torch.zeros(len(part)))
        diagnostics.add(terms, len(part) / BATCH)
        total.backward()
    found = {}
    diagnostics.record(found)
    return found, diagnostics.summary(found), images


def by_hand(student, images):
    """Return the gradients of `squares` and `linear` in (weight, bias), as lists of numbers."""
    weight, bias = student.weight.tolist(), student.bias.tolist()
    first = [[0.0] * (INPUTS + 1) for _ in range(CLASSES)]
    second = [[0.0] * (INPUTS + 1) for _ in range(CLASSES)]
    for image in images.tolist():
        for c in range(CLASSES):
            logit = bias[c] + sum(w * x for w, x in zip(weight[c], image, strict=True))
            for i, x in enumerate([*image, 1.0]):
                first[c][i] += 2 * logit * x / (BATCH * CLASSES)
                second[c][i] += x if c == 0 else 0.0
    return [[value for row in each for value in row] for each in (first, second)]


@pytest.mark.parametrize("scaler", [None, Scaler()])
def test_norms_cosine_and_suggestion_are_those_computed_by_hand(objective, scaler):
    made = objective(0.5, 3.0)
    found, summary, images = measured(made, scaler)
    a, b = by_hand(made.student, images)
    norm, other = (sum(x * x for x in each) ** 0.5 for each in (a, b))
    assert list(found) == ["gradient/squares", "gradient/linear", "cosine/linear"]
    assert found["gradient/squares"] == [pytest.approx(norm, rel=1e-9)]
    assert found["gradient/linear"] == [pytest.approx(other, rel=1e-9)]
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / norm / other
    assert found["cosine/linear"] == [pytest.approx(cosine, rel=1e-9)]
    assert summary["suggested/linear"] == float(f"{0.5 * norm / other:.2g}")
    assert "suggested/squares" not in summary
    found, summary, _ = measured(objective(0.5, 0.0), scaler)  # only logged
    assert found["gradient/linear"] == [pytest.approx(other, rel=1e-9)]
    assert summary["suggested/linear"] == float(f"{0.5 * norm / other:.2g}")


def test_parts_of_a_batch_make_the_whole(objective):
    """Of a mean over the samples; uneven parts."""
    whole, parted = (measured(objective(1.0, losses=[squares]), parts=n)[0] for n in (1, 3))
    assert parted["gradient/squares"] == pytest.approx(whole["gradient/squares"], rel=1e-12)


def test_what_has_no_gradient_or_an_infinite_one_has_no_suggestion(objective):
    losses = (squares, constant, infinite)
    found, summary, _ = measured(objective(1.0, 0.0, 0.0, losses=losses))
    assert found["gradient/constant"] == [0.0]
    assert set(found) == {"gradient/squares", "gradient/constant"}
    assert set(summary) == set(found)


def test_an_epoch_has_the_medians_and_two_digits(objective):
    diagnostics = Diagnostics(runtime(), Detached(objective(2.0, 1.0)), every=1)
    found = {
        "gradient/squares": [1.0, 9.0, 3.0],
        "gradient/linear": [0.07, 0.001, 0.5],
        "cosine/linear": [0.5, -0.25, 0.75],
    }
    assert diagnostics.summary(found) == {
        "gradient/squares": 3.0,
        "gradient/linear": 0.07,
        "cosine/linear": 0.5,
        "suggested/linear": 86.0,  # 2 * 3 / 0.07
    }
    diagnostics.objective.weights["squares"] = 0.0  # in this epoch
    assert "suggested/linear" not in diagnostics.summary(found)
    assert diagnostics.summary({}) == {}


def test_steps_are_every_so_many_of_an_epoch(objective):
    made = objective(1.0, 1.0)
    for every, expected in ((0, []), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [1, 4, 7]), (9, [1])):
        diagnostics, due = Diagnostics(runtime(), Detached(made), every=every), []
        for number in range(1, 8):
            found = {}
            diagnostics.start(number)
            _, terms = made(torch.ones(2, INPUTS, dtype=torch.float64), torch.zeros(2))
            diagnostics.add(terms, 1.0)
            diagnostics.record(found)
            due += [number] if found else []
        assert due == expected


def test_a_frozen_student_is_not_diagnosed(objective):
    made = objective(1.0, 0.0)
    made.student.requires_grad_(False)
    diagnostics = Diagnostics(runtime(), Detached(made), every=1)
    diagnostics.start(1)
    diagnostics.add(made(torch.ones(2, INPUTS, dtype=torch.float64), torch.zeros(2))[1], 1.0)
    diagnostics.record(found := {})
    assert found == {}
