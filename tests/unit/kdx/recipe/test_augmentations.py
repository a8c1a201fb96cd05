"""A list of augmentations in a recipe, and the keys that mix images."""

import io

import jsonschema
import pytest
import torch
import yaml
from rich.console import Console

from kdx.commands.list import catalogue
from kdx.commands.main import main
from kdx.commands.schema import schema_of
from kdx.recipe import RecipeError, load
from kdx.recipe.registry import resolve, table
from kdx.recipe.resuming import flat
from kdx.run.resume import compare_recipes

LIST = "data.augment=[{use: RandomResizedCrop, scale: [0.35, 1]}, {use: RandAugment, num_ops: 1}]"


def test_a_list_is_read_written_and_read_again(recipe, tmp_path):
    first = recipe(LIST, "data.mixup=0.2", "data.cutmix=1.0", "data.repeats=3")
    uses = [(part.use, dict(part.arguments)) for part in first.data.augment.then]
    assert uses == [("RandomResizedCrop", {"scale": [0.35, 1]}), ("RandAugment", {"num_ops": 1})]
    assert first.data.augment.changes == ["then"]
    path = tmp_path / "again.yaml"
    path.write_text(first.to_yaml())
    again = load(path, output_root=tmp_path / "runs")
    assert again.plain() == first.plain()
    assert (again.data.mixup, again.data.cutmix, again.data.repeats) == (0.2, 1.0, 3)


def test_overrides_reach_into_a_list(recipe):
    changed = recipe(LIST, "data.augment.1.magnitude=5", "data.augment.2={use: RandomErasing}")
    assert [part.use for part in changed.data.augment.then][1:] == ["RandAugment", "RandomErasing"]
    assert changed.data.augment.then[1].arguments == {"num_ops": 1, "magnitude": 5}


def test_what_is_wrong_has_its_place(recipe):
    with pytest.raises(RecipeError) as raised:
        recipe("data.augment=[{use: RandAugmet}, {use: Resize, sizes: 3}, {scale: 1}, 4]",
               "data.mixup=2000", "data.cutmix=-1", "data.repeats=0")  # fmt: skip
    text = str(raised.value)
    assert "data.augment[0].use: 'RandAugmet' is not an augmentation. Did you mean" in text
    assert "data.augment[1].sizes: unknown argument. Did you mean 'size'?" in text
    assert "data.augment[2].use: is missing: the name of the augmentation" in text
    assert "data.mixup: 2000" in text
    assert "is neither 0 nor from 0.001 to 1000, a parameter of Beta" in text
    assert "data.cutmix: -1" in text
    assert "data.repeats: 0" in text
    with pytest.raises(RecipeError, match=r"num_ops: .*integer"):
        recipe("data.augment=[{use: RandAugment, num_ops: two}]")
    with pytest.raises(RecipeError, match="not both: in the list they are RandomCrop"):
        recipe("data.augment={crop: 2, then: [{use: RandAugment}]}")


def test_a_plugins_own(recipe):
    part = recipe("data.augment=[{use: tests.toys.Darker, most: 0.5}]").data.augment.then[0]
    image = torch.full((1, 2, 3), 200, dtype=torch.uint8)
    made = part.build(size=[2, 3])(image)
    assert made.shape == (1, 2, 3)
    assert 100 <= int(made.min()) == int(made.max()) <= 200
    with pytest.raises(RecipeError, match=r"augment\[0\].most: .*number"):
        recipe("data.augment=[{use: tests.toys.Darker, most: much}]")
    with pytest.raises(RecipeError, match=r"'tests\.toys\.Pair' is not an augmentation: "):
        recipe("data.augment=[{use: tests.toys.Pair}]")


@pytest.mark.parametrize("use", ["RandomApply", "MixUp", "Normalize", "Compose"])
def test_what_is_not_of_one_image_and_random_is_not_offered(use):
    with pytest.raises(ValueError, match=f"'{use}' is not an augmentation"):
        resolve(use, "augmentation", set())


def test_a_run_can_only_be_resumed_with_the_same_list(recipe):
    old, new = (flat(recipe(*what).plain()) for what in ((), (LIST,)))
    before = {key: value for key, value in old.items() if key not in
              ("data.mixup", "data.cutmix", "data.repeats")}  # fmt: skip
    assert compare_recipes(before, old).refused == []
    refused = compare_recipes(before, new).refused
    assert 'data.augment.then.0.use: absent, now "RandomResizedCrop"' in refused
    mixed = flat(recipe("data.mixup=0.2").plain())
    assert compare_recipes(before, mixed).refused == ["data.mixup: absent, now 0.2"]


def test_an_editor_knows_both_forms():
    validator = jsonschema.Draft202012Validator(schema_of("recipe"))

    def valid(augment):
        data = {"use": "digits", "augment": yaml.safe_load(augment), "mixup": 0.2, "cutmix": 1.0}
        return validator.is_valid({"data": data, "student": {"use": "smallnet"}})

    assert valid("{crop: 2, flip: true}")
    assert valid("[{use: RandomResizedCrop, scale: [0.35, 1]}, {use: my.own, any: 3}]")
    assert valid("{then: [{use: RandAugment}]}")
    assert not valid("[{use: RandAugment, num_op: 2}]")
    assert not valid("[{use: RandAugmen}]")
    assert not valid("{crops: 2}")


def test_the_catalogue(capsys, monkeypatch):
    monkeypatch.setattr("kdx.commands.list.terminal", lambda: Console(file=out, width=100))
    out = io.StringIO()
    assert main(["list", "augmentations"]) == 0
    assert "RandAugment" in out.getvalue()
    entries = {entry.name: entry for entry in catalogue("augmentation")}
    assert list(entries) == list(table("augmentation"))
    size = next(each for each in entries["RandomResizedCrop"].arguments if each.name == "size")
    assert size.provided
