"""From a study's file to its runs: names, order, what overrides what, and what is wrong."""

import pytest

from kdx.recipe import RecipeError, load
from kdx_lab.study.grid import open_study
from kdx_lab.study.reading import read_study

BASE = """\
data: {use: digits, limit: 64, batch_size: 16}
student:
  use: smallnet
  transforms: [{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]
epochs: 5
seed: 9
name: elsewhere
"""
STUDY = """\
recipe: base.yaml
seeds: [3, 1]
arms: [compact, ck]
"""


@pytest.fixture
def grid(tmp_path):
    """Return a function: the text of a study, and overrides, to its grid."""
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "base.yaml").write_text(BASE)

    def grid(text: str = STUDY, *overrides: str):
        (folder / "arms.yaml").write_text(text)
        return open_study(folder / "arms.yaml", overrides, output_root=tmp_path / "runs")

    return grid


def problems(grid, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        grid(text, *overrides)
    return [str(problem).partition("/digits/")[2] for problem in caught.value.problems]


def test_all_arms_of_the_first_seed_come_first(grid, tmp_path):
    found = grid()
    assert [str(cell) for cell in found.cells] == [
        "compact, seed 3", "ck, seed 3", "compact, seed 1", "ck, seed 1",
    ]  # fmt: skip
    assert found.directory == tmp_path / "runs/studies/digits/arms"
    assert [cell.run_dir.relative_to(found.directory).as_posix() for cell in found.cells] == [
        "compact/seed_3", "ck/seed_3", "compact/seed_1", "ck/seed_1",
    ]  # fmt: skip


def test_seeds_differ_in_seed_and_name_alone(grid):
    first, _, second, _ = (cell.recipe.plain() for cell in grid().cells)
    assert (first.pop("seed"), second.pop("seed")) == (3, 1)
    assert first.pop("name") != second.pop("name")
    assert first == second


def test_a_cell_is_the_recipe_that_it_writes(grid, tmp_path):
    """Also that of a later seed, which is not loaded but copied."""
    cell = grid().cells[-1]
    path = tmp_path / "again.yaml"
    path.write_text(cell.recipe.to_yaml())
    assert load(path, output_root=tmp_path / "runs").plain() == cell.recipe.plain()


def test_settings_have_their_own_arms_and_folders(grid):
    text = STUDY + "settings: {kernel 3: {arms: [compact]}, kernel 7: {overrides: {epochs: 2}}}\n"
    found = grid(text, "seeds=[0]")
    assert [(cell.setting, cell.arm, cell.recipe.epochs) for cell in found.cells] == [
        ("kernel 3", "compact", 5), ("kernel 7", "compact", 2), ("kernel 7", "ck", 2),
    ]  # fmt: skip
    assert found.cells[1].recipe.name == "studies/digits/arms/kernel-7/compact/seed_0"


def test_an_arm_overrides_its_setting_and_that_the_study(grid, tmp_path):
    (tmp_path / "digits" / "own.yaml").write_text(BASE.replace("batch_size: 16", "batch_size: 32"))
    text = """\
recipe: base.yaml
overrides: {epochs: 2, accumulate: 2, log_every: 7}
seeds: [0]
arms:
  compact:
  long: {arm: ck, overrides: {epochs: 4, student.transforms.0.rate: 3}}
  other: {arm: compact, recipe: own.yaml}
settings: {small: {overrides: {epochs: 3, accumulate: 1}}}
"""
    compact, long, other = (cell.recipe for cell in grid(text).cells)
    assert [r.epochs for r in (compact, long, other)] == [3, 4, 3]
    assert [r.data.batch_size for r in (compact, long, other)] == [16, 16, 32]
    assert all((r.accumulate, r.log_every) == (1, 7) for r in (compact, long, other))
    assert dict(long.student.transforms[0].arguments) == {"conv": "ck", "linear": False, "rate": 3}


def test_a_whole_section_replaces_a_key_of_it_that_the_study_gives(grid):
    text = """\
recipe: base.yaml
overrides: {optimizer.lr: 0.2, optimizer: {use: SGD, lr: 0.1}}
seeds: [0]
arms: [compact]
settings:
  own: {overrides: {optimizer: {use: AdamW, lr: 0.001}}}
  rate: {overrides: {optimizer.lr: 0.3}}
"""
    own, rate = (cell.recipe.optimizer.component for cell in grid(text).cells)
    assert (own.use, own.arguments["lr"]) == ("AdamW", 0.001)
    assert (rate.use, rate.arguments["lr"]) == ("SGD", 0.3)


def test_what_is_wrong_with_the_shared_recipe_is_told_once(grid, tmp_path):
    (tmp_path / "digits" / "base.yaml").write_text(BASE.replace("epochs: 5", "epochs: five"))
    assert problems(grid, STUDY) == ["base.yaml:5: epochs: 'five' is not an integer"]
    assert problems(grid, STUDY.replace("base.yaml", "absent.yaml")) == [
        "absent.yaml: cannot be read: No such file or directory"
    ]


def test_what_is_wrong_is_told_in_the_words_of_the_study(grid):
    text = """\
recipe: base.yaml
overrides: {log_every: often}
arms:
  compact:
  ck: {overrides: {epochs: 0.5}}
  ck+kd:
  kc:
  fc: {overrides: {epohcs: 3}}
"""
    unknown, shared = problems(grid, text)
    assert shared == "arms.yaml:2: overrides.log_every: 'often' is not an integer"
    found = problems(grid, text, "overrides.log_every=3")
    assert found.pop(0) == unknown
    assert unknown.startswith("arms.yaml:7: arms.kc: 'kc' is not a built-in arm. Known: ck, ")
    assert found[0] == "arms.yaml:5: arms.ck.overrides.epochs: 0.5 is not an integer"
    assert found[1] == "arms.yaml:6: ck+kd: the recipe has no teacher, which this arm needs"
    assert found[2].startswith("arms.yaml:8: arms.fc.overrides.epohcs: unknown key. Did")
    assert len(found) == 3


def test_a_whole_setting_is_named_once(grid):
    text = STUDY + "settings: {a: {}, b: {overrides: {epochs: 0}}}\n"
    (found,) = problems(grid, text)
    assert found.startswith("arms.yaml:4: settings.b.overrides.epochs: 0 should be")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: {compact: , c k: {arm: ck}, c-k: {arm: fc}}",
         "arms.yaml:2: c-k: 'c k' and 'c-k' would use the same directory: rename one of them"),
        ("arms: {compact: , a: {arm: ck, overrides: {losses: [{use: cross_entropy}, {use: kd}]}}}",
         "arms.yaml:2: a: kd needs a teacher, and this arm has none: built-in arms that end in "
         "`+kd` keep the recipe's"),
        ("arms: [compact]\nlosses_without_teacher: [{use: kd}]",
         "kd needs a teacher, and this arm has none"),
        ("arms: {compact: , logs: {arm: ck}}",
         "arms.yaml:2: logs: 'logs' is reserved for the study: rename the arm or setting"),
        ("arms: [compact]\nname: ../out", "arms.yaml: name: '../out' is not a relative path"),
        ("arms: {compact: , '..': {arm: ck}}", "'studies/digits/arms/../seed_0' is not a relative"),
    ],
)  # fmt: skip
def test_places_are_the_runs_own(grid, text, said):
    (found,) = problems(grid, f"recipe: base.yaml\n{text}\n")
    assert said in found


def test_a_study_is_no_recipe(grid, tmp_path):
    grid()
    with pytest.raises(RecipeError, match=r"is a study, not a recipe: run it with `kdx study`"):
        load(tmp_path / "digits" / "arms.yaml")


def test_a_run_that_would_lie_in_that_of_another_is_refused(grid):
    text = (
        "recipe: base.yaml\nbaseline: a\nseeds: [3, 1]\narms: {a: {arm: compact}, b: {arm: ck}}\n"
    )
    text += "settings: {'+': {arms: [a]}, a seed_1: {arms: [b]}}\n"
    assert len(grid(text).cells) == 4
    nested = (
        text.replace("b: {arm", "seed_1: {arm")
        .replace("a seed_1:", "a:")
        .replace("[b]", "[seed_1]")
    )
    message = r"arms.yaml: .*seed_1, seed \d would lie in the run of \+, a, seed 1: rename one of"
    with pytest.raises(RecipeError, match=message):
        grid(nested)


AXES = "recipe: base.yaml\nseeds: [1]\narms: [compact]\n"


def test_axes_multiply_settings(grid):
    text = AXES + "grid: {data.batch_size: [16, 32], student.kernel_size: [3, 5, 7]}\n"
    found = grid(text).cells
    assert [cell.setting for cell in found] == [
        f"batch_size = {batch}, kernel_size = {kernel}"
        for batch in (16, 32)
        for kernel in (3, 5, 7)
    ]
    made = [(c.recipe.data.batch_size, c.recipe.student.component.arguments) for c in found]
    assert [(batch, more["kernel_size"]) for batch, more in made] == [
        (16, 3), (16, 5), (16, 7), (32, 3), (32, 5), (32, 7),
    ]  # fmt: skip
    assert found[0].recipe.name.endswith("/batch_size-16-kernel_size-3/compact/seed_1")
    text += "settings: {a: {overrides: {data.batch_size: 8, epochs: 2}}, b: }\n"
    cells = grid(text).cells
    assert len(cells) == 12
    assert cells[0].setting == "a, batch_size = 16, kernel_size = 3"
    assert (cells[0].recipe.epochs, cells[0].recipe.data.batch_size) == (2, 16)


def test_axes_of_the_same_last_part_have_their_whole_keys(tmp_path):
    path = tmp_path / "arms.yaml"
    path.write_text(AXES + "grid: {student.transforms.0.rate: [2], optimizer.rate: [1]}\n")
    assert [*read_study(path)[0].settings] == ["student.transforms.0.rate = 2, optimizer.rate = 1"]


def test_a_mistake_in_an_axis_is_told_once_with_its_line(grid):
    text = AXES + "settings: {a: {}, b: {}}\ngrid:\n  student.kernel_sise: [3, 5, 7]\n"
    (found,) = problems(grid, text)
    assert found.startswith("arms.yaml:6: grid.'student.kernel_sise': unknown argument. Did you")
    text = AXES + "grid:\n  data.batch_size: [16, 0]\n  epochs: [1, 2]\n"
    (found,) = problems(grid, text)
    assert found.startswith(
        "arms.yaml:5: grid.'data.batch_size': batch_size = 0, epochs = 1; batch"
    )
    text = AXES + "settings: {a: {overrides: {log_every: x}}, b: {}}\ngrid: {epochs: [1, 2]}\n"
    assert problems(grid, text) == [
        "arms.yaml:4: settings.a.overrides.log_every: 'x' is not an integer"
    ]


def test_problems_of_the_study_hide_none_of_its_recipes(grid):
    text = "recipe: base.yaml\nseeds: [0, 0]\narms: [compact, kc]\noverrides: {epohcs: 3}\n"
    found = problems(grid, text)
    assert found[0] == "arms.yaml:2: seeds: 0: listed twice"
    assert found[1].startswith("arms.yaml:3: arms.kc: 'kc' is not a built-in arm.")
    assert found[2].startswith("arms.yaml:4: overrides.epohcs: unknown key.")
    assert len(found) == 3
    assert problems(grid, "seeds: [0, 0]\narms: [compact]\n") == [
        "arms.yaml:1: seeds: 0: listed twice",
        "arms.yaml:1: recipe: is missing: name the recipe that the arms are made of",
    ]


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ("{seed: [1, 2]}", "the study sets the seeds"),
        ("{data.batch_size: []}", "data.batch_size"),
        ("{data.root: [a/b, c]}", "'root = a/b' is not a heading: 1 to 60 letters"),
    ],
)
def test_axes_that_do_not_work_are_refused(grid, axes, problem):
    (found, *_) = problems(grid, f"{AXES}grid: {axes}\n")
    assert problem in found
