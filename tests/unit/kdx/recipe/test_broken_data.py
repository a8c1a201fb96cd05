"""Broken `data:` sections, and limits that are whole."""

import json

import pytest

from kdx.recipe import RecipeError, load

GOOD = "data: {use: digits, batch_size: 32}\nstudent: {use: smallnet}\n"

DATA = {
    "augment: {crop: -1}": "augment.crop: -1 should be greater than or equal to 0",
    "augment: {crop: 1025}": "augment.crop: 1025 should be at most 1,024",
    "augment: {flip: 1}": "augment.flip: 1 is not true or false",
    "augment: {crops: 1}": "augment.crops: unknown key. Did you mean 'crop'?",
    "augment: {resized_crop: [0.9, 0.1]}": "augment.resized_crop: [0.9, 0.1] is not [low, high]",
    "augment: {resized_crop: [0.9]}": "augment.resized_crop[1]: is missing",
    "augment: {resized_crop: [1, 1, 1]}": "augment.resized_crop: has 3 entries, but needs",
    "validation: 1.5": "validation: 1.5 is neither a share between 0 and 1 nor a number of images",
    "validation: 0": "validation: 0 is neither a share",
    "validation: true": "validation: True is neither a share",
    "label_noise: 1.5": "label_noise: 1.5 should be at most 1",
    "label_noise: -0.1": "label_noise: -0.1 should be greater than or equal to 0",
    "label_noise: .nan": "label_noise: nan should be a finite number",
    "batch_size: 1.5": "batch_size: 1.5 is not an integer",
    "chanels: 3": "chanels: unknown argument. Did you mean 'channels'?",
}


@pytest.mark.parametrize(("line", "expected"), DATA.items())
def test_a_broken_data_section(write, line, expected):
    path = write(f"student: {{use: smallnet}}\ndata:\n  use: digits\n  {line}\n")
    with pytest.raises(RecipeError) as raised:
        load(path)
    assert len(raised.value.problems) == 1
    assert str(raised.value).startswith(f"{path}:4: data.{expected}")


@pytest.mark.parametrize("limit", ["0", "2.5", "{training: 5}", "{}", "{test: 0}", "{test: true}"])
def test_a_limit_of_no_samples(write, limit):
    with pytest.raises(RecipeError, match=r"data.limit: .* is not a number of samples, for each"):
        load(write(GOOD.encode()), [f"data.limit={limit}"])


@pytest.mark.parametrize("limit", [7, None, {"train": 7}, {"validation": 1, "test": 2}])
def test_limits(write, limit):
    recipe = load(write(GOOD.encode()), [f"data.limit={json.dumps(limit)}"])
    assert recipe.data.limit == limit
    assert load(write(recipe.to_yaml().encode())).data.limit == limit
