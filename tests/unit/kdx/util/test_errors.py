"""Errors go through pickle, as a pool of processes sends them."""

import pickle
from pathlib import Path

import pytest

from kdx.recipe.errors import Problem, RecipeError
from kdx.util.errors import Stopped


@pytest.mark.parametrize(
    "error",
    [
        RecipeError([Problem("a.yaml:3", "epochs", "is not an integer"), Problem("", "", "x")]),
        Stopped(Path("runs/x/checkpoints/epoch_0001")),
        Stopped(where="saved elsewhere"),
    ],
)
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
