"""The studies in configs/studies, and what docs/studies.md says of them."""

import re
from pathlib import Path

import pytest

from kdx.losses import TABLE
from kdx_lab.study.arms import BUILT_IN
from kdx_lab.study.grid import open_study
from kdx_lab.study.reading import read_study
from kdx_lab.study.schema import Arm, Setting, Study

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs/studies"
STUDIES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.yaml"))
TEXT = (ROOT / "docs/studies.md").read_text()


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_loads_and_has_the_runs_that_are_documented(name, tmp_path):
    grid = open_study(FOLDER / name, output_root=tmp_path)
    row = re.search(rf"^\| `{re.escape(name)}` \|.*\| (\d+) \|$", TEXT, re.M)
    assert row is not None
    assert len(grid.cells) == int(row.group(1))
    assert all((cell.recipe.teacher is not None) == has_teacher(cell) for cell in grid.cells)


def has_teacher(cell) -> bool:
    """Return whether its arm is named as one with a teacher."""
    name = cell.arm.rpartition("+")[2]
    return name != "tf_kd" and (name.partition("_")[0] in TABLE or name == "today")


@pytest.mark.parametrize("name", [name for name in STUDIES if name.endswith("/methods.yaml")])
def test_a_study_of_methods_has_all_of_them(name):
    arms = read_study(FOLDER / name)[0].arms
    methods = {path.stem for path in (ROOT / "configs/methods").glob("*.yaml")}
    methods -= {"kd_born_again"}  # it needs the run of another arm
    assert {arm for arm in arms if arm != "compact"} == methods


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("table", [1, 6, 8])
def test_the_override_for_all_images_works(dataset, table, tmp_path):
    path = FOLDER / dataset / f"table{table}.yaml"
    given = re.search(r"'(overrides=.*)'", path.read_text())
    assert given is not None
    one = ["arms=[compact]", "settings={one: {}}", "seeds=[0]"]
    held_out, whole = (
        open_study(path, [*one, *more], output_root=tmp_path).cells[0].recipe
        for more in ([], [given.group(1)])
    )
    assert (held_out.data.validation, held_out.select) == (5000, "best")
    data = held_out.data.model_copy(update={"validation": None})
    assert whole == held_out.model_copy(update={"data": data, "select": "last"})


def test_every_key_and_every_built_in_arm_is_documented():
    names = {*Study.model_fields, *Setting.model_fields, *Arm.model_fields}
    names |= {arm.removesuffix("+kd").removesuffix("+init") for arm in BUILT_IN}
    assert [name for name in sorted(names) if f"`{name}`" not in TEXT] == []


def test_the_guides_study_loads(tmp_path):
    text = re.search(r"```yaml\n(.*?)```", TEXT, re.S)
    assert text is not None
    file = tmp_path / "study.yaml"
    recipes = ROOT / "configs/fashion_mnist"
    file.write_text(text.group(1).replace("../../fashion_mnist", str(recipes)))
    grid = open_study(file, output_root=tmp_path)
    assert len(grid.cells) == 3 * (3 + 4)
    rates = {c.arm: c.recipe.student.transforms[0].arguments["rate"] for c in grid.cells[1:7]
             if c.recipe.student.transforms}  # fmt: skip
    assert rates == {"cl": 4, "cl, r = 8": 8, "ck": 4}
