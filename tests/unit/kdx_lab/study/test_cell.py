"""The recipe of one run: seed, name, and weights of each seed."""

from kdx.recipe import load
from kdx_lab.study.cell import of_seed

RECIPE = """\
data: {use: digits}
teacher: {use: smallnet, weights: "runs/teachers/seed_{seed}"}
student: {use: smallnet, weights: {path: "runs/start/{seed}.pt", key: model}}
losses: [{use: cross_entropy}, {use: kd}]
"""


def test_weights_have_the_seed_of_the_run(tmp_path):
    (tmp_path / "base.yaml").write_text(RECIPE)
    recipe = load(tmp_path / "base.yaml", output_root=tmp_path / "runs")
    found = of_seed(recipe, 12, "toy/seed_12")
    assert (found.seed, found.name) == (12, "toy/seed_12")
    assert found.teacher is not None
    assert found.teacher.weights == str(tmp_path / "runs/teachers/seed_12")
    file = found.student.file
    assert file is not None
    assert (file.path, file.key) == (str(tmp_path / "runs/start/12.pt"), "model")


def test_weights_without_it_are_the_same_for_all_seeds(tmp_path):
    (tmp_path / "base.yaml").write_text(RECIPE.replace("{seed}", "0"))
    recipe = load(tmp_path / "base.yaml", output_root=tmp_path / "runs")
    found = of_seed(recipe, 3, recipe.name)
    assert (found.student, found.teacher) == (recipe.student, recipe.teacher)
