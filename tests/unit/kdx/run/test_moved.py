"""A run directory is resumed, evaluated and compressed wherever it lies, from anywhere."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from kdx.commands.compress import compress
from kdx.commands.evaluate import evaluate
from kdx.recipe import load
from kdx.recipe.schema import Recipe
from kdx.run.run import run
from kdx.training.state import TrainState
from kdx.util.errors import Stopped
from tests.faults.resuming import stop_after
from tests.unit.runs import contents, same

QUIET = Console(quiet=True)
RECIPE = """\
data: {use: image_folder, root: images, size: 32, batch_size: 4}
student: {use: smallnet, weights: start}
teacher: {use: smallnet, weights: runs/teacher, allow_chance: true, memo: false}
losses: [{use: kd}]
epochs: 2
name: a/b
"""


def write_images(root):
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the working directory, with images, a teacher, and the recipe of a run."""
    home = tmp_path / "home"
    write_images(home / "images")
    (home / "r.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(home)
    plain = ("teacher=null", "losses=[{use: cross_entropy}]", "student={use: smallnet}")
    for name, root in (("teacher", "runs"), ("start", ".")):
        run(load("r.yaml", [*plain, f"name={name}", "epochs=1"], output_root=root), QUIET)
    return home


def stopped(recipe: Recipe, monkeypatch, fork=None):
    with stop_after(2, monkeypatch), pytest.raises(Stopped):
        run(recipe, QUIET, fork=fork)
    return recipe.run_dir


def test_a_moved_run_is_resumed_where_it_lies_from_another_directory(
    home, tmp_path, monkeypatch, console
):
    whole = contents(run(load("r.yaml", ["name=whole"]), QUIET))
    stopped(load("r.yaml"), monkeypatch)
    shutil.move(home / "runs" / "a" / "b", tmp_path / "moved")
    shutil.rmtree(home / "start")  # what the student started from is not needed any more
    monkeypatch.chdir(tmp_path)
    run_dir = run(load("moved/recipe.yaml"), console, resume=True)
    assert run_dir == tmp_path / "moved"
    assert same(contents(run_dir), whole)
    printed = console.file.getvalue()
    assert f"note     the recipe lies in the run {run_dir}: this one, not runs/a/b\n" in printed
    assert "note     resumed from epoch_0000_step_000002\n" in printed
    assert "changed:" not in printed
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_that_was_moved_is_finished_and_works_from_anywhere(
    home, tmp_path, monkeypatch, console
):
    before = evaluate(run(load("r.yaml"), QUIET))
    shutil.move(home / "runs", tmp_path / "kept")
    shutil.move(tmp_path / "kept" / "a" / "b", tmp_path / "kept" / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = load("../kept/moved/recipe.yaml", output_root="../kept")
    assert run(moved, console, resume=True) == tmp_path / "kept" / "moved"
    assert console.file.getvalue() == f"{tmp_path}/kept/moved is finished: nothing to do\n"
    assert evaluate("../kept/moved") == before
    place = next((tmp_path / "kept/moved/checkpoints").iterdir())
    assert not compress(place, "c.safetensors").problems
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "home", "kept"]


def test_a_run_that_was_copied_is_the_one_that_is_resumed(home, monkeypatch):
    first = stopped(load("r.yaml"), monkeypatch)
    shutil.copytree(first, home / "runs" / "copy")
    assert run(load("runs/copy/recipe.yaml"), QUIET, resume=True) == home / "runs" / "copy"
    assert not (first / "summary.json").exists()


def test_the_recipe_of_a_moved_run_starts_a_new_one_by_name_and_replaces_no_other(
    home, monkeypatch, console
):
    first = stopped(load("r.yaml"), monkeypatch)
    shutil.move(first, home / "moved")
    new = run(load("moved/recipe.yaml", ["epochs=1"]), console)
    assert str(new) == "runs/a/b"
    assert "moved, this is a new run: --resume continues it\n" in console.file.getvalue()
    with pytest.raises(FileExistsError, match=r"a/b would be replaced, but the recipe lies in th"):
        run(load("moved/recipe.yaml"), QUIET, overwrite=True)
    named = load("moved/recipe.yaml", ["name=a/b", "epochs=1"])
    assert str(run(named, QUIET, overwrite=True)) == "runs/a/b"


def test_the_recipe_of_a_run_has_paths_that_hold_from_anywhere(home, tmp_path, monkeypatch):
    memo = "teacher.memo={views: 1, directory: runs/m}"
    text = load("r.yaml", [memo]).portable_yaml()
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    again = load("r.yaml", output_root="out")
    assert again.data.component.arguments["root"] == str(home / "images")
    assert again.student.weights == str(home / "start")
    assert again.teacher.weights == str(home / "runs" / "teacher")
    assert str(again.memos_dir(again.teacher)) == "out/m"
    plain = "data: {use: cifar10}\nstudent: {use: smallnet}\n"
    (tmp_path / "c.yaml").write_text(plain, encoding="utf-8")
    assert f"root: {tmp_path}/data\n" in load("c.yaml").portable_yaml()  # a default


def test_a_finished_run_with_damaged_checkpoints_is_finished(recipe, console):
    run_dir = run(recipe(), QUIET)
    for place in (run_dir / "checkpoints").iterdir():
        (place / "student.safetensors").write_bytes(b"")
    assert run(recipe(), console, resume=True) == run_dir
    assert console.file.getvalue() == f"{run_dir} is finished: nothing to do\n"


def test_a_resume_with_another_fork_is_refused(recipe, console, monkeypatch):
    one, two = (run(recipe(f"seed={s}", name=f"s{s}"), QUIET) for s in (1, 2))
    stopped(recipe(), monkeypatch, fork=one)
    message = rf"--fork {two}: .*/plain was started from {one}/checkpoints/epoch_0001: resume it"
    for _ in range(2):  # stopped, and finished
        with pytest.raises(ValueError, match=message):
            run(recipe(), QUIET, resume=True, fork=two)
        run(recipe(), QUIET, resume=True, fork=one)
    plain = recipe(name="unforked")
    stopped(plain, monkeypatch)
    with pytest.raises(ValueError, match=r"unforked was started without --fork: resume it"):
        run(plain, QUIET, resume=True, fork=one)


def test_a_fork_that_ended_before_its_first_checkpoint_is_no_other_fork(recipe):
    one, two = (run(recipe(f"seed={s}", name=f"s{s}"), QUIET) for s in (1, 2))
    state = TrainState.newest(one)[0]
    run_dir = recipe().run_dir
    run_dir.mkdir(parents=True)
    (run_dir / "recipe.yaml").write_text(recipe().portable_yaml(), encoding="utf-8")
    (run_dir / "fork.json").write_text(json.dumps({"checkpoint": str(state.place)}))
    with pytest.raises(ValueError, match=r"was started from .*/s1/checkpoints/epoch_0001"):
        run(recipe(), QUIET, resume=True, fork=two)
    written = (run_dir / "fork.json").read_text()
    (run_dir / "fork.json").write_text("[]")
    with pytest.raises(ValueError, match=r"fork.json: damaged: start the run again with --overwr"):
        run(recipe(), QUIET, resume=True)
    (run_dir / "fork.json").write_text(written)
    run(recipe(), QUIET, resume=True)
