"""The weighted sum of a recipe's losses."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdx.losses import CRD, CrossEntropy
from kdx.training.objective import Objective
from tests.unit.kdx.training.objectives import (
    BATCH,
    IMAGES,
    TARGETS,
    mean_square,
    student,
    term,
)


def test_terms_come_back_unweighted_and_are_weighted_once():
    network = student()
    objective = Objective(
        network, [term(CrossEntropy(), 0.25, "ce"), term(mean_square, 3.0, "square")]
    )
    total, values = objective(*BATCH)
    logits = network(IMAGES)
    expected = {"ce": F.cross_entropy(logits, TARGETS), "square": logits.square().mean()}
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(total, 0.25 * expected["ce"] + 3 * expected["square"])
    assert objective.weighted({"ce": 2.0, "square": 5.0}) == {"ce": 0.5, "square": 15.0}


def test_a_term_of_weight_zero_is_shown_and_not_trained_on():
    network = student()
    objective = Objective(
        network,
        [term(mean_square, name="square"), term(lambda *_: torch.tensor(torch.inf), 0.0, "inf")],
    )
    total, values = objective(*BATCH)
    assert values["inf"] == torch.inf
    assert total == values["square"]


def test_banks_are_neither_broadcast_nor_saved_for_each_process():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    objective = Objective(network, [term(CRD(train_images=9, dim=3), name="crd")])
    ignored = objective.ignored_by_ddp
    assert ignored == [f"adaptors.crd.{name}" for name in ("student_bank", "teacher_bank", "log_z")]
    assert set(ignored) <= dict(objective.named_buffers()).keys()
    own = ("running_mean", "running_var", "num_batches_tracked")
    assert list(objective.own_buffers()) == [f"student.1.{name}" for name in own]


def test_losses_that_are_no_scalar_are_refused():
    objective = Objective(student(), [term(lambda outputs, *_: outputs.logits)])
    with pytest.raises(
        ValueError, match=r"term: a loss must be a scalar tensor, not of shape \[4, 10\]"
    ):
        objective(*BATCH)


def test_an_in_place_relu_does_not_reach_the_feature_before_it():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(1800, 10))  # fmt: skip
    read = {}

    def reads(outputs, teacher, target):
        read["feature"] = outputs.features["1"]
        return read["feature"].mean()

    objective = Objective(network, [term(reads)])
    objective.probe(*BATCH, {})
    objective(*BATCH)[0].backward()
    torch.testing.assert_close(read["feature"], network[1](network[0](IMAGES)))
    assert read["feature"].min() < 0
    torch.testing.assert_close(network[1].bias.grad, torch.full((2,), 0.5))


def test_weights_follow_the_epochs():
    ramp = term(mean_square, lambda epoch, epochs: 2.0 * epoch / epochs, "ramp")
    objective = Objective(student(), [term(CrossEntropy(), name="ce"), ramp], epochs=4)
    assert objective.varying == ["ramp"]
    assert objective.weights == {"ce": 1.0, "ramp": 1.5}
    totals = []
    for epoch in range(4):
        objective.enter(epoch)
        total, values = objective(*BATCH)
        totals.append(total)
        torch.testing.assert_close(total, values["ce"] + epoch / 2 * values["ramp"])
        assert objective.weighted({"ce": 2.0, "ramp": 3.0}) == {"ce": 2.0, "ramp": 1.5 * epoch}


def test_a_weight_that_is_0_in_every_epoch_trains_nothing():
    with pytest.raises(ValueError, match="every term has weight 0"):
        Objective(student(), [term(mean_square, lambda epoch, epochs: 0.0)], epochs=3)


class Asking(nn.Module):
    """Returns the mean of the indices plus the epoch, times the logits' mean."""

    def forward(self, student, teacher, target, *, indices, epoch):
        return student.logits.mean() * (indices.float().mean() + epoch)


@pytest.mark.parametrize("wrapped", [False, True])
def test_losses_that_ask_get_the_samples_indices_and_the_epoch(wrapped):
    loss = Asking() if wrapped else Asking().forward
    objective = Objective(student(), [term(loss)], epochs=3)
    assert objective.wants_indices
    objective.enter(2)
    indices = torch.tensor([5, 6, 7, 10])
    objective.probe(*BATCH, {}, indices)
    _, values = objective(*BATCH, {}, indices)
    torch.testing.assert_close(values["term"], objective.student(IMAGES).mean() * 9)
    assert not Objective(student(), [term(CrossEntropy())]).wants_indices
