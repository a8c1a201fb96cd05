"""Jobs with a memo, on the digits."""

import pytest

from kdx.memo.memo import Memo
from kdx.models.teacher import Teacher
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for

CROPPED = "data.augment={crop: 2, flip: true}"


@pytest.fixture
def guided(recipe, teacher_run):
    """Return a function: overrides to the recipe with a trained teacher, a memo and KD."""
    teacher = f"teacher={{use: smallnet, weights: {teacher_run}, memo: {{views: 2}}}}"

    def guided(*overrides, name="plain"):
        return recipe(teacher, CROPPED, "losses=[{use: kd}]", *overrides, name=name)

    return guided


@pytest.fixture
def loop_of():
    """Return a function: a recipe to its loop."""

    def loop_of(recipe):
        job = build(recipe)
        return Runtime(job, accelerator_for(job))

    return loop_of


@pytest.fixture
def asked(monkeypatch):
    """Return the numbers of images that the teacher was run on since a memo was opened."""
    numbers, call, opened = [], Teacher.__call__, Memo.__init__

    def counted(teacher, images):
        numbers.append(len(images))
        return call(teacher, images)

    def cleared(memo, plan, teacher):
        opened(memo, plan, teacher)
        numbers.clear()

    monkeypatch.setattr(Teacher, "__call__", counted)
    monkeypatch.setattr(Memo, "__init__", cleared)
    return numbers
