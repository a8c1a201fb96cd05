"""A good recipe: its values, defaults, stages, paths, and its way back to YAML."""

import math
from pathlib import Path

import pytest

from kdx.data import Augment
from kdx.recipe import RecipeError, beside, load
from kdx.recipe.loading import read
from kdx.recipe.paths import Locations
from kdx.recipe.yaml_source import scalar

FULL = """\
name: "x/1e-3"
data: {use: digits, channels: 3, batch_size: 16, augment: {crop: 4, flip: true}, validation: 0.1}
teacher:
  use: recipe_plugin.Net
  width: 8
  weights: runs/teacher
  recipe: teacher.yaml
  input: {mean: [0.5], std: [1], size: 32}
  memo: {views: 4, limit: 2, directory: runs/elsewhere}
student:
  use: smallnet
  shape: [3, 4]
  path: "null"
  transforms: [{use: recipe_plugin.blur, rate: 3}]
losses:
  - {use: cross_entropy, weight: 0.1}
  - {use: recipe_plugin.CrossEntropy, weight: 1}
  - {use: kd, name: soft, temperature: 2}
optimizer: {use: Adam, lr: 1e-3, betas: [0.8, 0.9]}
schedule: {use: multistep, milestones: [50, 100]}
stages:
  - {phase: nonlinear, epochs: 2}
  - {phase: nonlinear, losses: [{use: kd}], optimizer: {use: SGD, lr: 1}}
  - {schedule: {use: constant}}
precision: no
select: best
"""


@pytest.fixture
def full(write):
    write(name="digits/teacher.yaml")
    return load(write(FULL), plugins=["recipe_plugin"])


def test_the_defaults(write):
    recipe = load(write())
    assert recipe.name == "digits/plain"
    assert (recipe.seed, recipe.epochs, recipe.accumulate, recipe.clip) == (0, 150, 1, None)
    assert (recipe.evaluate_every, recipe.log_every, recipe.precision) == (1, 50, None)
    assert (recipe.select, recipe.teacher, recipe.stages) == ("last", None, [])
    assert (recipe.tolerance.float32, recipe.tolerance.float64) == (1e-4, 1e-9)
    assert (recipe.data.batch_size, recipe.data.workers, recipe.data.limit) == (32, 0, None)
    assert recipe.data.augment.model_dump() == Augment().model_dump()
    assert [(term.name, term.weight) for term in recipe.losses] == [("cross_entropy", 1.0)]
    optimizer = recipe.optimizer.component
    assert (optimizer.use, optimizer.arguments["lr"]) == ("SGD", 0.01)
    (stage,) = recipe.resolved_stages()
    assert (stage.name, stage.phase, stage.epochs) == ("train", None, 150)
    assert stage.losses == recipe.losses


def test_values_keys_and_names(full):
    assert full.name == "x/1e-3"
    assert full.precision == "no"
    assert full.data.component.arguments == {"channels": 3}
    assert full.teacher.input.std == [1.0]
    memo = full.teacher.memo
    assert (memo.views, memo.dtype, memo.top, memo.limit) == (4, "float16", None, 2)
    assert full.memos_dir(full.teacher) == Path("runs/elsewhere")
    assert full.student.component.arguments == {"shape": [3, 4], "path": "null"}
    assert full.optimizer.component.arguments == {"lr": 0.001, "betas": [0.8, 0.9]}
    assert [term.name for term in full.losses] == ["cross_entropy", "crossentropy", "soft"]


def test_equal_default_names_are_told_apart(write):
    losses = "losses: [{use: kd}, {use: kd}, {use: pkt, name: kd_2}, {use: kd}]\n"
    recipe = load(write(f"data: {{use: digits}}\nstudent: {{use: smallnet}}\n{losses}"))
    assert [term.name for term in recipe.losses] == ["kd", "kd_3", "kd_2", "kd_4"]


def test_stages_are_filled_in_from_the_recipe(full):
    first, second, third = full.resolved_stages()
    assert [s.name for s in (first, second, third)] == ["nonlinear", "nonlinear_2", "stage3"]
    assert [s.phase for s in (first, second, third)] == ["nonlinear", "nonlinear", None]
    assert [s.epochs for s in (first, second, third)] == [2, 150, 150]
    assert (first.losses, first.optimizer) == (full.losses, full.optimizer)
    assert [term.component.use for term in second.losses] == ["kd"]
    assert second.optimizer.component.arguments == {"lr": 1}
    assert third.schedule.use == "constant"
    assert second.schedule == full.schedule


def test_the_resolved_recipe_reads_back_as_the_same(full, tmp_path):
    run = tmp_path / "elsewhere" / "recipe.yaml"
    run.parent.mkdir()
    run.write_text(full.to_yaml())
    again = load(run, plugins=["recipe_plugin"])
    assert again == full
    assert again.to_yaml() == full.to_yaml()
    assert again.teacher is not None
    assert again.teacher.recipe == tmp_path / "digits" / "teacher.yaml"


def test_the_defaults_read_back_as_the_same(write):
    recipe = load(write())
    assert load(write(recipe.to_yaml(), "digits/again.yaml")) == recipe


@pytest.mark.parametrize("text", ["1e-3", "true", "null", "~", "", ".inf", "010", "<<", "a: b\n#"])
def test_strings_that_look_like_something_else_read_back_as_strings(write, text):
    recipe = load(write(), ["student.use=recipe_plugin.anything"], plugins=["recipe_plugin"])
    recipe.student.component.arguments["<<"] = [text, {"null": text}]
    again = load(write(recipe.to_yaml()), plugins=["recipe_plugin"])
    assert again == recipe


def test_names_and_chains_of_teachers_have_an_end(write):
    with pytest.raises(RecipeError, match=r"name: 'a{70}.* has 300 characters: at most 240"):
        load(write(), [f"name={'a' * 300}"])
    teacher = "teacher: {use: smallnet, weights: runs/x, recipe: %d.yaml}\n"
    text = "data: {use: digits}\nstudent: {use: smallnet}\n"
    paths = [write(text + teacher % (n + 1), f"digits/{n}.yaml") for n in range(11)]
    recipe = load(paths[0])
    for path in paths[1:8]:
        recipe = beside(recipe, path)
    with pytest.raises(
        RecipeError, match=r"8.yaml:3: .*'9.yaml': a chain of more than 8 teacher rec"
    ):
        beside(recipe, paths[8])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-.5E+2", -50.0),
        ("1.", 1.0),
        ("+7", 7),
        ("010", 10),
        ("-.inf", -math.inf),
        ("true", True),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("True", True),
        ("FALSE", False),
        ("Null", None),
        ("tRUE", "tRUE"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("e3", "e3"),
        (".", "."),
        ("٣", "٣"),
    ],
)
def test_scalars(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_not_a_number():
    assert math.isnan(scalar(".nan"))


def test_a_recipe_that_a_run_could_not_read_again_is_refused(write):
    text = "data: {use: digits}\nstudent: {use: recipe_plugin.anything}\n"
    locations, plain = Locations(write(text), Path("runs"), ("recipe_plugin",)), {"use": "digits"}
    for names, message in (
        (range(20_000), r"written out it cannot be read: more than 20,000 values"),
        (["x" * 80] * 4000, r"with its defaults written out it is larger than 256 kB"),
    ):
        student = {"use": "recipe_plugin.anything", "names": list(names)}
        with pytest.raises(RecipeError, match=message):
            read(locations, given={"data": plain, "student": student})


def test_the_recipe_of_a_run_may_be_larger_than_a_users(write):
    """A list in one line, which is written with a line for each."""
    names = ", ".join(f"class_{n:05}" for n in range(4900))
    text = f"data: {{use: digits}}\nstudent: {{use: recipe_plugin.anything, names: [{names}]}}\n"
    recipe = load(write(text), plugins=["recipe_plugin"])
    again = write(recipe.portable_yaml(), "digits/recipe.yaml")
    assert again.stat().st_size > 2**16
    student = load(again, plugins=["recipe_plugin"]).student.component.arguments
    assert student == recipe.student.component.arguments


def test_the_momentum_of_the_default_is_not_that_of_another_optimizer(write):
    named = ["optimizer.use=AdamW", "optimizer.lr=1e-3"]
    assert load(write(), named).optimizer.component.arguments == {"lr": 1e-3}
    for same in ("SGD", "RMSprop"):
        assert load(write(), [f"optimizer.use={same}"]).optimizer.component.arguments == {
            "lr": 0.01,
            "momentum": 0.9,
        }
    with pytest.raises(RecipeError, match=r"override .*optimizer.momentum: unknown argument"):
        load(write(), [*named, "optimizer.momentum=0.8"])


@pytest.mark.parametrize("nothing", ["null", "none", "{}", "[]"])
def test_no_augmentation_may_be_written_as_the_docs_say(write, nothing):
    assert load(write(), [f"data.augment={nothing}"]).data.augment == Augment()


def test_other_libraries_names_are_understood(write):
    with pytest.raises(RecipeError, match=r"unknown argument. Did you mean 'lr'\?"):
        load(write(), ["optimizer.learning_rate=0.1"])
    with pytest.raises(RecipeError, match=r"unknown argument. Did you mean 'weight_decay'\?"):
        load(write(), ["optimizer.wd=0.1"])


def test_a_run_directory_in_place_of_a_recipe_names_its_recipe(write):
    file = write(name="digits/recipe.yaml")
    with pytest.raises(RecipeError, match=r"Is a directory: name its .*digits/recipe.yaml"):
        load(file.parent)
