"""What the tests of `Objective` share: a batch, a student, a teacher, terms."""

import torch

from kdx.models.students import smallnet
from kdx.models.teacher import Teacher
from kdx.training.terms import Term
from tests.unit.kdx.models.test_teacher import GREY

GENERATOR = torch.Generator().manual_seed(0)
IMAGES, TARGETS = torch.randn(4, 1, 32, 32, generator=GENERATOR), torch.tensor([3, 1, 4, 1])
BATCH = IMAGES, TARGETS


def term(loss, weight=1.0, name="term"):
    return Term(name, weight, loss, f"recipe.yaml:7: losses[0] {name}")


def student():
    torch.manual_seed(2)
    return smallnet(in_channels=1)


def smallnet_teacher():
    torch.manual_seed(1)
    return Teacher(smallnet(in_channels=1, kernel_size=7), own=GREY, given=GREY)


def mean_square(outputs, teacher, target):
    return outputs.logits.square().mean()
