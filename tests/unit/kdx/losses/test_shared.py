import pytest
import torch

from kdx.losses import DKD, NKD, TfKD
from kdx.losses.shared import hard, per_class
from tests.contracts import TARGET, outputs


def test_the_label_of_a_mixed_image_is_that_with_the_larger_share():
    soft = torch.tensor([[0.2, 0.8, 0.0], [0.6, 0.0, 0.4], [0.0, 0.0, 1.0]])
    assert hard(soft).tolist() == [1, 0, 2]
    labels = torch.tensor([2, 0])
    assert hard(labels) is labels


@pytest.mark.parametrize("loss", [DKD(), NKD(), TfKD()])
def test_losses_of_one_label(loss):
    student, teacher = outputs({}), outputs({}, seed=1)
    soft = 0.6 * torch.eye(5)[TARGET] + 0.4 * torch.eye(5)[(TARGET + 1) % 5]
    assert torch.equal(loss(student, teacher, soft), loss(student, teacher, TARGET))


def test_weights_of_classes_are_made_once_for_each_dtype():
    numbers, logits = [0.1, 2.0], torch.zeros(3, 2)
    made = per_class("weights", numbers, logits)
    assert made is per_class("weights", numbers, logits.half())
    assert per_class("weights", numbers, logits.double()).tolist() == numbers
