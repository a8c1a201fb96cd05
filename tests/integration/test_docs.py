"""The documentation says what the code does."""

import re
from pathlib import Path

import pytest
import torch

from kdx import data, losses, schedules, students
from kdx.recipe import load
from kdx.recipe.schema import Recipe
from kdx.recipe.sections import Data, Student, Teacher

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(ROOT.glob("configs/*/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_shipped_recipe_is_valid(path, tmp_path):
    recipe = load(path, output_root=tmp_path)
    assert recipe.run_dir.is_relative_to(tmp_path)
    if recipe.teacher:
        assert recipe.teacher.recipe is not None
        teacher = recipe.beside(recipe.teacher.recipe)
        assert str(teacher.run_dir) == recipe.teacher.weights
        assert dict(teacher.student.component.arguments) == dict(recipe.teacher.component.arguments)


def test_the_readme_shows_the_recipe_that_it_names():
    shown = re.search(r"```yaml\n# (\S+)\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None
    path, text = shown.groups()
    kept = [line for line in (ROOT / path).read_text().splitlines() if not line.startswith("#")]
    assert text.splitlines() == kept


def test_every_key_and_every_name_is_documented():
    text = (ROOT / "docs" / "recipes.md").read_text()
    keys = {*Recipe.model_fields}
    for prefix, section in (("data", Data), ("teacher", Teacher), ("student", Student)):
        keys |= {f"{prefix}.{name}" for name in section.model_fields if name != "component"}
    names = {*data.TABLE, *losses.TABLE, *schedules.TABLE, *students.TABLE}
    missing = [word for word in sorted(keys | names) if f"`{word}`" not in text]
    assert missing == []


def test_the_readmes_overrides_work(tmp_path):
    command = re.search(r"distill.py (\S+) \\\n\s+(.+)", (ROOT / "README.md").read_text())
    assert command is not None
    path, overrides = command.group(1), command.group(2).split()
    recipe = load(ROOT / path, overrides, output_root=tmp_path)
    assert recipe.epochs == 30
    assert recipe.student.transforms[0].arguments["rate"] == 8


def test_the_plugin_guides_loss_runs(tmp_path, monkeypatch):
    code = re.search(r"```python\n# my_pkg/losses.py\n(.*?)```",
                     (ROOT / "docs" / "plugins.md").read_text(), re.S)  # fmt: skip
    assert code is not None
    namespace: dict = {}
    exec(code.group(1), namespace)
    outputs = [type("O", (), {"logits": torch.full((2, 3), value)}) for value in (1.0, 3.0)]
    assert float(namespace["LogitMSE"](scale=2.0)(*outputs, None)) == 8.0
