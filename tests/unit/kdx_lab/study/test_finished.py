"""Finished runs of a study are those of its recipes, wherever their files were moved."""

import shutil

import torch
from PIL import Image
from safetensors.torch import load_file

from kdx.models.weights import read_metadata, read_spec, save
from kdx_lab.study.finished import changed_since, placeless
from kdx_lab.study.grid import open_study
from tests.unit.kdx_lab.study.made import BASE, TEACHER


def test_a_teacher_in_a_moved_output_root_is_known_by_its_weights(study, tmp_path):
    (tmp_path / "digits/teacher.yaml").write_text(f"{BASE}name: t\n")
    more = ("overrides.losses=[{use: kd}]", "arms=[compact+kd]", "seeds=[0]")
    words = [f"{TEACHER[:-1]}, allow_chance: true}}", *more, "baseline=compact+kd"]
    study(*words)[1]()
    (tmp_path / "runs").rename(tmp_path / "moved")
    options = {"plugins": ("tests",), "output_root": tmp_path / "moved"}
    grid = open_study(tmp_path / "digits/two.yaml", words, **options)
    recipe, weights = grid.cells[0].recipe, tmp_path / "moved/t/student.safetensors"
    assert changed_since(recipe) == []
    spec, other = (
        read_spec(weights),
        {name: value + 1 for name, value in load_file(weights).items()},
    )
    save(other, weights, input=spec, classes=10, extra=read_metadata(weights)["extra"])
    was, now = tmp_path / "runs/t", tmp_path / "moved/t"  # another teacher of that ending
    assert changed_since(recipe) == [f'teacher.weights: "{was}", now "{now}"']
    shutil.rmtree(recipe.run_dir / "checkpoints")
    assert changed_since(recipe) != []


def images(root, *, shift=0):
    for split in ("train", "val"):
        for number, name in enumerate(("ant", "bee")):
            (root / split / name).mkdir(parents=True)
            for each in range(8):
                color = (100 * number + 10 * each + shift,) * 3
                Image.new("RGB", (8 + shift, 8), color).save(root / split / name / f"{each}.png")
    return root


def test_moved_images_are_known_by_their_digests_and_others_refused(study, tmp_path):
    first = images(tmp_path / "first")
    data = "overrides.data={{use: image_folder, size: 8, batch_size: 8, root: {}}}"
    more = ("arms=[compact]", "seeds=[0]")
    study(data.format(first), *more)[1]()
    moved = shutil.copytree(first, tmp_path / "moved")
    recipe = study(data.format(moved), *more)[0].cells[0].recipe
    assert changed_since(recipe) == []
    other = images(tmp_path / "other", shift=1)
    recipe = study(data.format(other), *more)[0].cells[0].recipe
    assert changed_since(recipe) == [f'data.root: "{first}", now "{other}"']


def test_weights_are_compared_however_they_are_written(study, tmp_path):
    (tmp_path / "digits/teacher.yaml").write_text(f"{BASE}name: t\n")
    words = ["overrides.losses=[{use: kd}]", "arms=[compact+kd]", "seeds=[0]",
             "baseline=compact+kd"]  # fmt: skip
    study(f"{TEACHER[:-1]}, allow_chance: true}}", *words)[1]()
    for name in ("one", "other"):
        state = load_file(tmp_path / "runs/t/student.safetensors")
        torch.save({"model": state}, tmp_path / f"{name}.pth")
    start = "overrides.teacher={use: tests.toys.plain, allow_chance: true, weights: {path: "
    one, other = (f"{start}{tmp_path}/{name}.pth, key: model}}}}" for name in ("one", "other"))
    study(one, *words, "name=named")[1]()
    recipe = study(other, *words, "name=named")[0].cells[0].recipe
    assert [line.split(":")[0] for line in changed_since(recipe)] == ["teacher.weights.path"]
    assert placeless(recipe)["teacher.weights.path"] == f"{tmp_path}/other.pth"
