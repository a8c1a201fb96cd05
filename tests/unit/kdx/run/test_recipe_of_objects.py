"""What the recipe of a run of Python objects has of them."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import kdx
from kdx.run.objects import recipe_of_objects
from tests.toys import plain
from tests.unit.kdx.run.made_of_objects import Digits, network


@pytest.mark.parametrize("name", ["SRRL", "OFD"])
def test_a_loss_that_reads_the_teachers_network_gets_the_runs_own(name):
    """Of the user's object a copy would neither move to the device nor share its memory."""
    teacher = network(plain, seed=1)
    loss = {"SRRL": kdx.losses.SRRL, "OFD": kdx.losses.OFD}[name]
    layers = {"layers": [["0", "0"]]} if name == "OFD" else {}
    given, _ = recipe_of_objects(
        student=network(),
        train=Digits(64),
        test=Digits(32, test=True),
        teacher=teacher,
        losses=[loss(teacher_network=teacher, **layers)],
    )
    theirs = copy.deepcopy(teacher)
    made = given["losses"][0]["use"].build(teacher_network=theirs)
    assert (made.heads[0] is theirs[4]) if name == "SRRL" else (made.networks[0] is theirs)
    alone = given["losses"][0]["use"].build(teacher_network=None)
    held = alone.heads[0] if name == "SRRL" else alone.networks[0]
    assert all(held is not each for each in (*teacher.modules(), *theirs.modules()))


def test_numpys_numbers_are_numbers(distill_objects):
    tenth = np.float32(0.125)
    run = distill_objects(
        epochs=np.int64(1),
        batch_size=np.int64(16),
        validation=np.float64(0.25),
        losses=[(tenth, kdx.losses.CrossEntropy())],
        optimizer={"use": "SGD", "lr": np.float64(0.01)},
    )
    recipe = (run.path / "recipe.yaml").read_text()
    assert all(text in recipe for text in ("weight: 0.125", "lr: 0.01", "validation: 0.25"))


class Weighted:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, student, teacher, target):
        return self.weight * student.logits.square().mean()


def test_an_attribute_that_is_named_as_a_key_of_the_recipe_is_compared_too(distill_objects):
    run = distill_objects(losses=Weighted(2.0), epochs=1)
    assert "weight_: 2.0" in (run.path / "recipe.yaml").read_text()
    with pytest.raises(ValueError, match=r"losses\.0\.weight_"):
        distill_objects(losses=Weighted(3.0), epochs=1, resume=True)


class Falling:
    """A schedule's class, or what it makes."""

    def __init__(self, end=0.0):
        self.end = end

    def __call__(self, step, steps, steps_per_epoch):
        return 1 - (1 - self.end) * step / steps


@pytest.mark.parametrize("made", [Falling, partial(Falling, end=0.5), Falling(0.25)])
def test_a_schedule_may_be_a_class_a_partial_or_an_object(distill_objects, made):
    assert distill_objects(epochs=1, schedule=made).summary.epochs == 1


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned None at step 0 of 4, not a finite number of at least 0"),
        (-1.0, "returned -1.0 at step 0 of 4"),
        (float("nan"), "returned nan at step 0"),
        (torch.tensor(1.0), r"returned tensor\(1.\) at step 0"),
    ],
)
def test_a_schedule_is_tried_before_the_run(distill_objects, tmp_path, returned, message):
    with pytest.raises(kdx.RecipeError, match=message):
        distill_objects(epochs=1, schedule=lambda step, steps, steps_per_epoch: returned)
    assert not [*tmp_path.iterdir()]


def test_the_default_name_of_a_run_is_one_that_a_run_can_have(distill_objects):
    class Réseau(nn.Sequential):
        pass

    run = distill_objects(student=Réseau(*network(plain)), epochs=1, name=None)
    assert run.path.parts[-2:] == ("python", "r_seau")


class Neck(nn.Module):
    """Holds a part of the teacher as a submodule, which is trained with it."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, student, teacher, target):
        return student.logits.square().mean() + self.part.weight.square().mean()


def test_a_part_of_the_teacher_that_a_loss_trains_is_a_copy():
    teacher = network(plain, seed=1)
    given, _ = recipe_of_objects(
        student=network(),
        train=Digits(64),
        test=Digits(32, test=True),
        teacher=teacher,
        losses=[Neck(teacher[4])],
    )
    theirs = copy.deepcopy(teacher)
    made = given["losses"][0]["use"].build(teacher_network=theirs)
    assert all(made.part is not each for each in (*teacher.modules(), *theirs.modules()))
