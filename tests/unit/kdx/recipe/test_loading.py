"""A good recipe: its values, defaults, stages, paths, and its way back to YAML."""

import math
from pathlib import Path

import pytest

from kdx.recipe import RecipeError, load
from kdx.recipe.paths import refuse_links
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
    assert recipe.data.augment.model_dump() == {"crop": 0, "flip": False, "resized_crop": None}
    assert [(term.name, term.weight) for term in recipe.losses] == [("cross_entropy", 1.0)]
    assert (recipe.optimizer.use, recipe.optimizer.arguments["lr"]) == ("SGD", 0.01)
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
    assert full.memos_dir == Path("runs/elsewhere")
    assert full.student.component.arguments == {"shape": [3, 4], "path": "null"}
    assert full.optimizer.arguments == {"lr": 0.001, "betas": [0.8, 0.9]}
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
    assert second.optimizer.arguments == {"lr": 1}
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


def test_weights_below_runs_are_below_the_output_root(write):
    teacher = "data: {use: digits}\nstudent: {use: smallnet, weights: %s}\n"
    for given, root, expected in (
        ("runs/a/b", "runs", "runs/a/b"),
        ("runs/a/b", "out", "out/a/b"),
        ("runs/a", "/tmp/out", "/tmp/out/a"),
        ("other/a", "out", "other/a"),
        ("/runs/a", "out", "/runs/a"),
    ):
        recipe = load(write(teacher % given), output_root=root)
        assert recipe.student.weights == expected


def test_memos_are_below_the_output_root(write):
    teacher = "data: {use: digits}\nstudent: {use: smallnet}\nteacher: {use: smallnet%s}\n"
    for given, expected in (
        ("", "out/memos"),
        (", memo: {views: 1}", "out/memos"),
        (", memo: {views: 1, directory: runs/x}", "out/x"),
        (", memo: {views: 1, directory: runs//x}", "out/x"),
        (", memo: {views: 1, directory: out/x/../y}", "out/x/../y"),
    ):
        recipe = load(write(teacher % given), output_root="out")
        assert recipe.memos_dir == Path(expected)


@pytest.mark.parametrize("given", ["/fast/memos", "memos", "runs/../x", "../x", "out/../x"])
def test_memos_lie_elsewhere_only_when_the_command_line_says_so(write, given):
    teacher = "data: {use: digits}\nstudent: {use: smallnet}\nteacher: {use: smallnet, memo: %s}\n"
    path = write(teacher % f"{{views: 1, directory: {given}}}")
    message = r"yaml:3: teacher.memo.directory: .* is outside the output root out, below which a"
    with pytest.raises(RecipeError, match=message):
        load(path, output_root="out")
    with pytest.raises(RecipeError, match=message):
        load(path, ["teacher.memo.views=2"], output_root="out")
    asked = load(path, [f"teacher.memo.directory={given}"], output_root="out")
    assert asked.memos_dir == Path(given.replace("runs/", "out/"))


def test_a_link_of_memos_out_of_the_output_root_is_refused(write, tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    (root / "memos").symlink_to(tmp_path)
    teacher = "teacher: {use: smallnet, memo: {views: 1}}"
    path = write(f"data: {{use: digits}}\nstudent: {{use: smallnet}}\n{teacher}\n")
    with pytest.raises(RecipeError, match=r"'runs/memos' is outside the output root .*/out, below"):
        load(path, output_root=root)


def test_weights_mean_the_same_when_read_again_with_a_root_below_runs(write):
    text = "data: {use: digits}\nstudent: {use: smallnet, weights: runs/a}\n"
    recipe = load(write(text), output_root="runs/b")
    assert load(write(recipe.to_yaml()), output_root="runs/b") == recipe


def test_the_run_directory_is_below_the_output_root(write, tmp_path):
    recipe = load(write(), ["name=a/b-1.0_c"], output_root=tmp_path / "out")
    assert recipe.run_dir == tmp_path / "out" / "a" / "b-1.0_c"


def test_a_recipe_beside_is_loaded_with_the_same_plugins_and_output_root(write, tmp_path):
    recipe = load(write(), plugins=["recipe_plugin"], output_root=tmp_path / "out")
    student = "data: {use: digits}\nstudent: {use: recipe_plugin.Net}\n"
    other = recipe.beside(write(student, "digits/other.yaml"))
    assert other.run_dir == tmp_path / "out" / "digits" / "other"


def test_recipes_that_are_each_others_teacher_are_refused(write):
    text = (
        "data: {use: digits}\nstudent: {use: smallnet}\n"
        "teacher: {use: smallnet, weights: runs/digits/NAME, recipe: NAME.yaml}\n"
    )
    teachers = {"a": "b", "b": "c", "c": "b"}
    paths = {n: write(text.replace("NAME", t), f"digits/{n}.yaml") for n, t in teachers.items()}
    b = load(paths["a"]).beside(paths["b"])
    message = r"c.yaml:3: teacher.recipe: 'b.yaml' .* in a circle: b.yaml -> c.yaml -> b.yaml$"
    with pytest.raises(RecipeError, match=message):
        b.beside(paths["c"])
    assert load(paths["c"]).teacher.recipe == paths["b"]


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "a/../../x", "/etc", "a//b", "a/", "./a", "a b", "a\\b", "é", "~/a", "a\n"],
)
def test_a_name_that_could_leave_the_output_root_is_refused(write, name):
    expected = r"name: .* is not a relative path of letters, digits, '.', '_' and '-', without"
    with pytest.raises(RecipeError, match=expected):
        load(write(), [f"name='{name}'"])


def test_a_default_name_is_held_to_the_same_rule(write):
    with pytest.raises(RecipeError, match=r"name: 'digits/a b' is not a relative path"):
        load(write(name="digits/a b.yaml"))


def test_a_link_out_of_the_output_root_is_refused(write, tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    (root / "away").symlink_to(tmp_path)
    (root / "here").symlink_to(root / "real")
    (root / "round").symlink_to(root / "round")
    for name in ("away/x", "here/x", "round/x", "away", "here/x/y"):
        link = name.partition("/")[0]
        with pytest.raises(RecipeError, match=rf"'{name}' leads through a link, .*/out/{link}: re"):
            load(write(), [f"name={name}"], output_root=root)


def test_a_root_that_is_a_link_itself_is_the_users_own(write, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert load(write(), ["name=a/b"], output_root=tmp_path / "out").name == "a/b"


def test_a_directory_with_links_is_not_written_in(tmp_path):
    run = tmp_path / "run"
    (run / "tensorboard").mkdir(parents=True)
    refuse_links(run)
    refuse_links(tmp_path / "absent")
    (run / "tensorboard" / "events").symlink_to(tmp_path / "other")
    with pytest.raises(ValueError, match=r"tensorboard/events is a link, to .*/other: it is not w"):
        refuse_links(run)
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"/link is a link, to .*/absent: it is not written"):
        refuse_links(tmp_path / "link")


def test_names_and_chains_of_teachers_have_an_end(write):
    with pytest.raises(RecipeError, match=r"name: 'a{70}.* has 300 characters: at most 240"):
        load(write(), [f"name={'a' * 300}"])
    teacher = "teacher: {use: smallnet, weights: runs/x, recipe: %d.yaml}\n"
    text = "data: {use: digits}\nstudent: {use: smallnet}\n"
    paths = [write(text + teacher % (n + 1), f"digits/{n}.yaml") for n in range(11)]
    recipe = load(paths[0])
    for path in paths[1:8]:
        recipe = recipe.beside(path)
    with pytest.raises(RecipeError, match=r"8.yaml:3: .*'9.yaml': more than 8 teachers of teac"):
        recipe.beside(paths[8])


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
        ("True", "True"),
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
