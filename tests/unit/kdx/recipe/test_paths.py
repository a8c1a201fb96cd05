"""Where a recipe may point to, and where its run may write."""

from pathlib import Path

import pytest

from kdx.recipe import RecipeError, beside, load
from kdx.recipe.paths import refuse_links


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
        assert recipe.memos_dir(recipe.teacher) == Path(expected)


@pytest.mark.parametrize("given", ["/fast/memos", "memos", "runs/../x", "../x", "out/../x"])
def test_memos_lie_elsewhere_only_when_the_command_line_says_so(write, given):
    teacher = "data: {use: digits}\nstudent: {use: smallnet}\nteacher: {use: smallnet, memo: %s}\n"
    path = write(teacher % f"{{views: 1, directory: {given}}}")
    message = r"yaml:3: teacher.memo.directory: .* is outside the output root out, where recipes"
    with pytest.raises(RecipeError, match=message):
        load(path, output_root="out")
    with pytest.raises(RecipeError, match=message):
        load(path, ["teacher.memo.views=2"], output_root="out")
    asked = load(path, [f"teacher.memo.directory={given}"], output_root="out")
    assert asked.memos_dir(asked.teacher) == Path(given.replace("runs/", "out/"))


def test_a_link_of_memos_out_of_the_output_root_is_refused(write, tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    (root / "memos").symlink_to(tmp_path)
    teacher = "teacher: {use: smallnet, memo: {views: 1}}"
    path = write(f"data: {{use: digits}}\nstudent: {{use: smallnet}}\n{teacher}\n")
    with pytest.raises(RecipeError, match=r"'runs/memos' is outside the output root .*/out, where"):
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
    other = beside(recipe, write(student, "digits/other.yaml"))
    assert other.run_dir == tmp_path / "out" / "digits" / "other"


def test_recipes_that_are_each_others_teacher_are_refused(write):
    text = (
        "data: {use: digits}\nstudent: {use: smallnet}\n"
        "teacher: {use: smallnet, weights: runs/digits/NAME, recipe: NAME.yaml}\n"
    )
    teachers = {"a": "b", "b": "c", "c": "b"}
    paths = {n: write(text.replace("NAME", t), f"digits/{n}.yaml") for n, t in teachers.items()}
    b = beside(load(paths["a"]), paths["b"])
    message = (
        r"c.yaml:3: teacher.recipe: 'b.yaml': circular teacher recipes: b.yaml -> c.yaml -> b.yaml$"
    )
    with pytest.raises(RecipeError, match=message):
        beside(b, paths["c"])
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
        with pytest.raises(
            RecipeError, match=rf"'{name}' goes through a symbolic link, .*/out/{link}: re"
        ):
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
    with pytest.raises(
        ValueError, match=r"tensorboard/events is a symbolic link to .*/other: runs do not w"
    ):
        refuse_links(run)
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    with pytest.raises(
        ValueError, match=r"/link is a symbolic link to .*/absent: runs do not write"
    ):
        refuse_links(tmp_path / "link")


def test_paths_of_windows_are_all_named(write):
    text = "data: {use: digits, root: 'C:\\data'}\nteacher: {use: smallnet, weights: 'D:/w.pt'}\n"
    with pytest.raises(RecipeError) as raised:
        load(write(text + "student: {use: smallnet}\n"))
    first, second = str(raised.value).splitlines()
    advice = "is a Windows path: write where it is on this system, in WSL /mnt/c/data"
    assert first.endswith(f"data.root: C:\\data {advice}")
    assert "teacher.weights: D:/w.pt is a Windows path" in second
    with pytest.raises(RecipeError, match=r"cannot be read: C:\\x\.yaml is a Windows path: write"):
        load("C:\\x.yaml")
