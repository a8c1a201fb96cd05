"""A run never lies in another: replacing one would take the other along."""

import pytest
from rich.console import Console

from kdx.recipe import RecipeError, load
from kdx.run.directory import claimed, discard
from kdx.run.run import run
from tests.unit.runs import contents, same


@pytest.fixture
def outer(recipe):
    return run(recipe("name=n"), Console(quiet=True))


def test_a_run_in_another_is_refused_by_name_by_output_root_and_through_a_link(
    recipe, outer, tmp_path
):
    (tmp_path / "link").symlink_to(outer)
    for inner in (
        recipe("name=n/inner"),
        recipe("name=n/checkpoints/inner"),
        load(tmp_path / "digits" / "plain.yaml", ["name=x"], output_root=outer),
        load(tmp_path / "digits" / "plain.yaml", ["name=x"], output_root=outer / "a"),
        load(tmp_path / "digits" / "plain.yaml", ["name=x"], output_root=tmp_path / "link"),
    ):
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(FileExistsError, match=r"lies in the run .*/runs/n, which would"):
                run(inner, Console(quiet=True), **how)
        assert not inner.run_dir.exists()


def test_a_run_begins_to_count_when_it_is_claimed(recipe):
    with (
        claimed(recipe("name=n"), resume=False, overwrite=False),
        pytest.raises(FileExistsError, match=r"n/inner lies in the run"),
    ):
        claimed(recipe("name=n/inner"), resume=False, overwrite=False).__enter__()


def test_a_project_with_a_recipe_and_folders_of_its_own_is_no_run(recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: {use: digits}\n", encoding="utf-8")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "tensorboard").mkdir()
    assert run(recipe(), Console(quiet=True)) == tmp_path / "runs" / "digits" / "plain"


@pytest.mark.parametrize("kept", ["student.safetensors", "recipe.yaml", "summary.json"])
def test_overwrite_removes_no_run_that_lies_in_the_one_to_replace(recipe, outer, kept):
    """As earlier versions allowed it, or as someone moved it there."""
    inner = outer / "deep" / "inner"
    inner.mkdir(parents=True)
    (inner / kept).write_text("all that is left", encoding="utf-8")
    before = contents(outer)
    for overwritten in (recipe("name=n"), recipe("name=n", "seed=1")):
        with pytest.raises(FileExistsError, match=r"deep/inner lies in .*/n, and would be replac"):
            run(overwritten, Console(quiet=True), overwrite=True)
    assert (inner / kept).exists()
    assert same(contents(outer), before)


def test_a_run_that_was_put_into_the_one_aside_meanwhile_is_kept(tmp_path):
    aside = tmp_path / "n.replaced"
    (aside / "inner").mkdir(parents=True)
    (aside / ".replaced").touch()
    (aside / "inner" / "student.safetensors").touch()
    assert discard(aside).startswith(f"{aside} is kept: {aside}/inner lies in {aside}, and")
    (aside / "inner" / "student.safetensors").unlink()
    (aside / "inner").rmdir()
    assert not discard(aside)
    assert not aside.exists()


def test_a_name_below_a_replaced_run_is_refused(recipe):
    with pytest.raises(RecipeError, match=r"'n.replaced/x' ends with '.replaced', which marks"):
        recipe("name=n.replaced/x")


@pytest.mark.parametrize(("student", "teacher"), [("t/s", "t"), ("t", "t/t")])
def test_a_teacher_and_its_student_do_not_lie_in_one_another(recipe, tmp_path, student, teacher):
    file = recipe(name="teacher").locations.file
    file.write_text(f"{file.read_text(encoding='utf-8')}name: {teacher}\n", encoding="utf-8")
    made = recipe(
        f"name={student}",
        f"teacher={{use: smallnet, weights: runs/{teacher}, recipe: teacher.yaml}}",
        "losses=[{use: kd}]",
    )
    with pytest.raises(ValueError, match=r"one run cannot lie in another, give them other names"):
        run(made, Console(quiet=True))
    assert not (tmp_path / "runs").exists()
