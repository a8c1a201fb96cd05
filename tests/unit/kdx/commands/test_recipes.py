from pathlib import Path

import pytest

from kdx.commands.main import main
from kdx.commands.recipes import copy, folder, shipped
from kdx.recipe import load

ROOT = Path(__file__).resolve().parents[4]


def test_all_recipes_and_studies_are_listed_recipes_first(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert folder() == ROOT / "configs"
    names = list(shipped())
    assert len(names) == len(list(ROOT.glob("configs/**/*.yaml")))
    kinds = [name.startswith("studies/") for name in names]
    assert kinds == sorted(kinds)
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in lines if not line.startswith(" ")] == names
    below = lines[lines.index("digits/teacher_resnet18") + 1]
    assert below.strip().startswith("The ResNet-18 that teaches on the digits")
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", ["digits/resnet18_to_smallnet3_cl_fc_kd", "studies/digits/arms"])
def test_a_copy_has_all_that_it_names_and_the_schemas(name, tmp_path):
    copied = copy(name, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in copied] == [
        *([f"{name}.yaml"] if "studies" in name else []),
        "digits/resnet18_to_smallnet3_cl_fc_kd.yaml",
        "digits/teacher_resnet18.yaml",
        "schema/recipe.json",
        "schema/study.json",
    ]
    for path in copied:
        assert path.read_bytes() == (folder() / path.relative_to(tmp_path)).read_bytes()
    recipe = load(tmp_path / "digits/resnet18_to_smallnet3_cl_fc_kd.yaml")
    assert recipe.teacher is not None
    assert recipe.teacher.recipe == tmp_path / "digits/teacher_resnet18.yaml"


def test_every_copy_is_complete(tmp_path):
    """What a copied file names, at any depth, exists; a recipe is valid where it was copied to."""
    for name in shipped():
        copy(name, tmp_path / name)
        if not name.startswith("studies/"):
            load(tmp_path / name / f"{name}.yaml")


def test_a_copied_study_has_the_teacher_that_its_overrides_name(tmp_path):
    """It is relative to the recipe that they change, not to the study."""
    copied = copy("studies/fashion_mnist/methods", tmp_path)
    assert tmp_path / "fashion_mnist/teacher_resnet18.yaml" in copied
    assert tmp_path / "methods/reviewkd.yaml" in copied


def test_it_says_how_to_run_the_copy(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", "configs/digits/smallnet3.yaml"]) == 0
    assert capsys.readouterr().out.endswith("run it: kdx distill digits/smallnet3.yaml\n")
    assert main(["recipes", "copy", "studies/digits/arms", "a b"]) == 0
    assert capsys.readouterr().out.endswith("run it: kdx study 'a b/studies/digits/arms.yaml'\n")


def test_an_unknown_name_is_refused_with_the_nearest(capsys):
    assert main(["recipes", "copy", "digits/smalnet3"]) == 2
    said = capsys.readouterr().err
    assert "'digits/smalnet3' is not a shipped recipe or study. Did you mean 'digits/sm" in said
    assert "imagenet" not in said
    assert len(said) < 400
    assert main(["recipes", "copy"]) == 2
    assert "NAME is missing: kdx recipes copy NAME; `kdx recipes` lists" in capsys.readouterr().err


def test_the_name_of_a_shipped_recipe_is_not_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "digits/smallnet3"]) == 2
    path = folder() / "digits" / "smallnet3.yaml"
    said = f"digits/smallnet3: no such file; a shipped recipe has that name: name its file, {path},"
    assert f"{said} or copy it: kdx recipes copy digits/smallnet3" in capsys.readouterr().err
    assert main(["distill", "digits/other"]) == 2
    assert "cannot be read: No such file or directory" in capsys.readouterr().err


def test_an_edited_copy_is_not_replaced_unless_asked(tmp_path):
    (path, *_) = copy("digits/smallnet3", tmp_path)
    copy("digits/smallnet3", tmp_path)  # nothing was edited
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"smallnet3.yaml exists: copy elsewhere, or pass"):
        copy("digits/smallnet3", tmp_path)
    assert path.read_text() == "mine"
    copy("digits/smallnet3", tmp_path, overwrite=True)
    assert path.read_text() != "mine"
