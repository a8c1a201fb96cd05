"""A study that is tuned: which trials run, what is chosen, and that a resumed search is equal."""

import json
import re
import shutil

import pytest
from rich.console import Console

from kdx.recipe import Recipe, RecipeError
from kdx.recipe.resuming import flat, resume_rule
from kdx.util.errors import StudyError
from kdx_lab.study.cell import Cell
from kdx_lab.study.conduct import report
from kdx_lab.study.finished import placeless
from kdx_lab.study.grid import open_study
from kdx_lab.tuning.tune import FILE, changed, chosen, described, tuned
from tests.unit.kdx_lab.study import made

pytest.importorskip("optuna", reason="needs pip install 'kdx[tune]'")
BASE = """\
data: {use: digits, limit: 64, batch_size: 32, validation: 32}
student: {use: tests.toys.plain}
epochs: 3
"""
STUDY = """\
recipe: base.yaml
seeds: [5, 6]
arms: {compact: , other: {arm: compact, space: {losses.0.label_smoothing: [0.0, 0.1]}}}
tune: {trials: 6, space: {optimizer.lr: "log(1e-3, 1e-1)"}}
"""


@pytest.fixture
def grid(tmp_path):
    """Return a function: overrides to a study."""
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY)

    def grid(*overrides, root="runs"):
        words = ["name=s", *overrides]
        return open_study(tmp_path / "study.yaml", words, plugins=["tests"],
                          output_root=tmp_path / root)  # fmt: skip

    return grid


class Driver:
    """Leaves runs whose validation metric is highest for a learning rate of 0.02."""

    def __init__(self):
        self.ran, self.wrong = [], {}

    def train_teachers(self, recipes):
        return {each.name: self.wrong[each.name] for each in recipes if each.name in self.wrong}

    def run(self, recipes, *, ended, is_over):
        for recipe in recipes:
            self.ran.append(recipe)
            score = 0.9 - abs(recipe.optimizer.component.arguments["lr"] - 0.02)
            cell = Cell("", "", recipe.seed, recipe)
            if recipe.optimizer.component.arguments["lr"] > 0.09:
                ended(recipe.name, "loss is nan")
                continue
            made.finish(cell, made.summary(0.1, best={"top1": score}, last={"top1": score - 0.1}),
                        curve=(score - 0.2, score - 0.1, score))  # fmt: skip
            for line in (path := recipe.run_dir / "metrics.jsonl").read_text().splitlines():
                path.write_text(path.read_text().replace(line, line[:-1] + ', "seconds": 6}'))
            is_over(recipe.name)
            ended(recipe.name, "")


def search(grid):
    said, driver = [], Driver()
    return tuned(grid, driver, said.append), driver.ran, said


def test_each_arm_gets_the_same_trials_and_then_the_best_values(grid, tmp_path):
    plain = grid()
    found, ran, said = search(plain)
    assert len(ran) == len(said) == 12
    assert {recipe.seed for recipe in ran} == {5}
    assert ran[0].name == "s/tune/compact/trial_000"
    rates = {arm: [r.optimizer.component.arguments["lr"] for r in ran if f"/{arm}/" in r.name]
             for arm in ("compact", "other")}  # fmt: skip
    content = json.loads((tmp_path / "runs/s" / FILE).read_text())
    for each in content["chosen"]:
        alive = [rate for rate in rates[each["arm"]] if rate <= 0.09]
        best = min(alive, key=lambda rate: abs(rate - 0.02))
        assert each["values"]["optimizer.lr"] == best
        assert each["validation"] == pytest.approx(0.8 - abs(best - 0.02))  # select: last
        cells = [cell for cell in found.cells if cell.arm == each["arm"]]
        assert [cell.recipe.optimizer.component.arguments["lr"] for cell in cells] == [best, best]
        assert each["trials"] == 6
    assert [cell.recipe.name for cell in found.cells] == [c.recipe.name for c in plain.cells]
    assert described(plain).count("the best of 6 trials") == 2


def test_a_search_takes_the_same_course_again(grid, tmp_path):
    first, ran, _ = search(grid())
    (tmp_path / "runs/s" / FILE).unlink()
    again, none, _ = search(grid())
    assert [
        recipe.name for recipe in none if recipe.optimizer.component.arguments["lr"] <= 0.09
    ] == []
    assert [c.recipe for c in again.cells] == [c.recipe for c in first.cells]
    shutil.rmtree(tmp_path / "runs/s")
    _, other, _ = search(grid())
    assert [recipe.plain() for recipe in other] == [recipe.plain() for recipe in ran]


def test_a_trial_that_failed_stays_failed_when_the_search_is_resumed(grid):
    search(grid())
    failed = {path.parent.name for path in grid().directory.rglob("failed.txt")}
    assert failed
    (grid().directory / "tuned.json").unlink()
    _, ran, said = search(grid())
    assert ran == []
    assert {re.search(r"trial_\d+", line)[0] for line in said} == failed
    assert all("loss is nan (in an earlier run: remove " in line for line in said)


def test_what_was_chosen_is_kept_until_the_search_changes(grid):
    search(grid())
    assert search(grid())[1] == []
    assert chosen(grid()) is not None
    assert chosen(grid("tune.trials=7")) is None
    assert chosen(grid("name=t")) is None
    assert chosen(grid("overrides.epochs=4")) is None


def test_a_study_that_was_moved_is_still_tuned(grid, tmp_path):
    taught = (
        "overrides.teacher={use: tests.toys.plain, weights: runs/t/t.safetensors}",
        "arms={compact+kd: }", "baseline=compact+kd", "overrides.losses=[{use: kd}]",
    )  # fmt: skip
    search(grid(*taught))
    (tmp_path / "runs").rename(tmp_path / "moved")
    moved = grid(*taught, root="moved")
    assert chosen(moved) is not None
    assert search(moved)[1] == []
    other = grid(*taught, "overrides.teacher.weights=runs/u/t.safetensors", root="moved")
    assert changed(other) == ["recipe of compact+kd"]


def test_it_says_how_a_search_differs(grid):
    assert changed(grid()) == ["nothing has been searched yet"]
    search(grid())
    assert changed(grid("tune.trials=7", "tune.sampler=random", "overrides.epochs=4")) == [
        "trials: was 6, now 7", "sampler: was tpe, now random", "recipe of compact",
        "recipe of other",
    ]  # fmt: skip
    assert changed(grid("tune.space={optimizer.lr: [0.1, 0.2]}"))[0] == (
        "space of compact: was {'optimizer.lr': 'log(1e-3, 1e-1)'}, "
        "now {'optimizer.lr': [0.1, 0.2]}"
    )
    with pytest.raises(ValueError, match=r"as the study asks: trials: was 6, now 7. Run"):
        report(grid("tune.trials=7"), Console())
    with pytest.raises(ValueError, match=r"recipe of other. Run the .*, without its .* `tune` if"):
        report(grid("overrides.epochs=4"), Console())


def test_a_key_that_is_added_later_changes_no_digest(grid):
    (recipe, *_) = grid().recipes.values()
    found = placeless(recipe)
    assert "optimizer.lr" in found
    assert "optimizer.factor_lr" in flat(recipe.plain())
    later = {key for key in found if resume_rule(key, Recipe).since}
    assert later == {"train_metrics"}  # which is older than tuning


def test_a_trial_that_cannot_be_built_fails_and_the_others_go_on(grid):
    said, driver = [], Driver()
    driver.wrong = {"s/tune/compact/trial_001": "no such layer"}
    found = tuned(grid(), driver, said.append)
    assert len(driver.ran) == 11
    assert any("compact: trial_001: no such layer (optimizer.lr" in line for line in said)
    assert len(found.cells) == 4


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"tune": 1, "chosen": [1]}'])
def test_a_damaged_choice_is_refused(grid, content):
    plain = grid()
    plain.directory.mkdir(parents=True)
    (plain.directory / FILE).write_text(content)
    with pytest.raises(ValueError, match=r"tuned.json: damaged: remove it, and run the study ag"):
        chosen(plain)


def test_an_arm_whose_trials_all_fail_ends_the_study(grid):
    with pytest.raises(StudyError, match=r"^tuning compact: none of 2 trials succeeded$"):
        search(grid("tune={trials: 2, space: {optimizer.lr: [0.1, 0.2]}, sampler: random}"))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("overrides.data.validation=null", "tune needs validation images: set overrides.data.val"),
        ("tune.space={optimizer.rate: 'log(1e-3, 1)'}", "rate"),
        ("tune.space={seed: 'int(1, 3)'}", "the study sets the seeds"),
        ("tune.space={optimizer.lr: 'log(0, 1)'}", "a logarithmic range needs numbers above 0"),
        ("tune.trials=0", "trials"),
        ("tune.space={data.limit.train: [32, 64]}", "would be compared on different images"),
        ("tune.space={data.validation: [8, 16]}", "would be compared on different images: set"),
        ("tune.space={data.use: [digits, fake]}", "would be compared on different images"),
        ("tune.space={select: [best, last]}", "trials would be compared by different epochs"),
        ("arms={compact: {space: {evaluate_every: [1, 2]}}}", "compared by different epochs"),
        ("tune=null", "without `tune:` nothing is searched: add it, or remove this"),
    ],
)
def test_a_wrong_search_is_refused_before_a_run(grid, override, problem):
    with pytest.raises(RecipeError, match=problem):
        grid(override)


def test_every_listed_value_is_tried_and_the_arm_is_told_once(grid):
    space = "{compact: , other: {arm: compact, space: {optimizer.use: [SGD, Sgdd, SGD]}}}"
    with pytest.raises(RecipeError) as refused:
        grid(f"arms={space}")
    (problem,) = refused.value.problems
    assert problem.place.endswith(": arms.other.space.'optimizer.use'")
    assert problem.where == ""
    wrong = "{compact: , other: {arm: compact, space: {optimizer.rate: [1, 2]}}}"
    with pytest.raises(RecipeError) as refused:
        grid(f"arms={wrong}")
    assert {problem.place.rpartition(": ")[2] for problem in refused.value.problems} == {
        "arms.other.space.'optimizer.rate'"
    }
