"""Jobs with a memo, on the digits."""

import pytest

from kdx.build import build
from kdx.loop import Loop, accelerator_for

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
        return Loop(job, accelerator_for(job))

    return loop_of
