"""Overrides: what they set, and what is said of those that cannot be."""

import pytest

from kdx.recipe import RecipeError, load
from kdx.recipe.wording import show

RECIPE = """\
data: {use: digits}
student:
  use: smallnet
  transforms: [{use: recipe_plugin.Blur, rate: 4}]
teacher: {use: smallnet, weights: runs/t}
epochs: 3
"""


@pytest.fixture
def path(write):
    return write(RECIPE)


def test_overrides_set_values_in_order(path):
    recipe = load(
        path,
        [
            "epochs=5",
            "epochs=6",
            "student.transforms.0.rate=8",
            "data.augment.resized_crop=[0.5, 1]",
            "tolerance={float32: 1e-3}",
            "losses.1.use=kd",
            "losses[1].temperature=3",
            "optimizer.lr=1e-3",
            "teacher.weights=",
            "teacher.allow_chance=true",
        ],
        plugins=["recipe_plugin"],
    )
    assert recipe.epochs == 6
    assert recipe.student.transforms[0].arguments == {"rate": 8}
    assert recipe.data.augment.resized_crop == (0.5, 1.0)
    assert recipe.tolerance.float32 == 1e-3
    assert [term.name for term in recipe.losses] == ["cross_entropy", "kd"]
    assert recipe.losses[1].component.arguments == {"temperature": 3}
    assert recipe.optimizer.component.arguments == {"lr": 1e-3, "momentum": 0.9}
    assert recipe.teacher is not None
    assert recipe.teacher.weights is None
    assert recipe.teacher.allow_chance


@pytest.mark.parametrize("written", ["", ", transforms: []", ", transforms: null"])
def test_an_index_one_past_the_end_appends_to_a_list_left_at_its_default(write, written):
    path = write(f"data: {{use: digits}}\nstudent: {{use: smallnet{written}}}\n")
    overrides = [
        "student.transforms.0={use: recipe_plugin.Blur, rate: 1}",
        "student.transforms.1.use=recipe_plugin.Blur",
        "student.transforms.1.rate=2",
        "losses.1.use=kd",
        "stages.0.losses.0={use: kd}",
        "stages.1={name: second, epochs: 4}",
    ]
    recipe = load(path, overrides, plugins=["recipe_plugin"])
    assert [part.arguments["rate"] for part in recipe.student.transforms] == [1, 2]
    assert [term.name for term in recipe.losses] == ["cross_entropy", "kd"]
    stages = [(s.epochs, [term.name for term in s.losses]) for s in recipe.resolved_stages()]
    assert stages == [(150, ["kd"]), (4, ["cross_entropy", "kd"])]


BROKEN = {
    "epochs": "override 'epochs': epochs: an override has the form key=value",
    "=3": "key '' has an empty part",
    "a..b=3": "key 'a..b' has an empty part",
    f"{'a.' * 40}b=3": "the key has more than 32 parts",
    "student.transforms.2.rate=1": "index 2 is out of range: student.transforms has 1 entry, and 1",
    "student.transforms.first=1": "student.transforms is a list: 'first' is not an index of it: "
    "0 is 'recipe_plugin.Blur'",
    "student.transforms[-1].rate=1": "'-1' is not an index of it",
    "student.transforms.-1=1": "'-1' is not an index of it",
    "epochs.0=1": "epochs is 3, which has no '0'",
    "epochs=abc": "override 'epochs=abc': epochs: 'abc' is not an integer",
    "epochs=": "override 'epochs=': epochs: None is not an integer",
    "epohcs=3": "override 'epohcs=3': epohcs: unknown key. Did you mean 'epochs'?",
    "epochs=[1": "override 'epochs=[1': epochs: not YAML: expected ',' or ']'",
    "epochs=*a": "epochs: aliases (*a) are not supported",
    "optimizer={use: SGD}": "override 'optimizer={use: SGD}': optimizer.lr: is missing",
    "data.augment.crop=-1": "override 'data.augment.crop=-1': data.augment.crop: -1 should be",
    "data.augment={crop: -1}": "override 'data.augment={crop: -1}': data.augment.crop: -1 should",
    "student.transforms.0.rate=x": "student.transforms[0].rate: 'x' is not an integer",
    "a\x1b[31m.b=3": r"key 'a\x1b[31m.b' contains unprintable characters",
    "a\udcff=3": r"key 'a\udcff' contains unprintable characters",
    "a=\udcff": r"a: not YAML: character '\udcff' is not allowed",
    "a.999999999=1": "a: unknown key",
    f"student.path={'[' * 31}1": "nested deeper than 32",
    f"{'k' * 50_000}=1": "k...: unknown key",
    "stages.1.epochs=1": "index 1 is out of range: stages has 0 entries, and 0 appends one",
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_broken_override_is_named(path, text, expected):
    with pytest.raises(RecipeError) as raised:
        load(path, [text], plugins=["recipe_plugin"])
    assert len(raised.value.problems) == 1
    assert str(raised.value).startswith(f"override {show(text)}: ")
    assert expected in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 3000


@pytest.mark.parametrize("overrides", [["seed=1"] * 1001, [f"name={'a' * 40_000}"] * 2])
def test_overrides_are_not_without_end(path, overrides):
    with pytest.raises(RecipeError, match=r"plain.yaml: overrides: at most 1000, of 64 kB toget"):
        load(path, overrides, plugins=["recipe_plugin"])


def test_a_section_made_by_an_override_is_blamed_on_it(write):
    path = write("data: {use: digits}\nstudent: {use: smallnet}\n")
    with pytest.raises(
        RecipeError, match=r"^override 'teacher.allow_chance=true': teacher.use: is"
    ):
        load(path, ["teacher.allow_chance=true"])


STAGED = """\
data: {use: digits}
student: {use: smallnet}
stages: [{epochs: 2}, {name: second, epochs: 4}]
"""


def test_an_override_of_epochs_that_no_stage_uses_is_refused(write):
    message = r"^override 'epochs=3': epochs: unused, since .*: set stages.0.epochs=..., stages.1"
    for overrides in (["epochs=3"], ["epochs=3", "stages.1.epochs=3"]):
        with pytest.raises(RecipeError, match=message):
            load(write(STAGED), overrides)
    recipe = load(write(STAGED), ["epochs=3", "stages.1.epochs="])
    assert [stage.epochs for stage in recipe.resolved_stages()] == [2, 3]


def test_an_override_of_the_stages_may_leave_the_files_epochs_unused(write):
    path = write("data: {use: digits}\nstudent: {use: smallnet}\nepochs: 9\n")
    recipe = load(path, ["stages=[{epochs: 2}]"])
    again = load(write(recipe.to_yaml()))
    assert not [line for line in recipe.to_yaml().splitlines() if line.startswith("epochs")]
    assert [s.epochs for s in again.resolved_stages()] == [2]
