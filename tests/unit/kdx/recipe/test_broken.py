"""Broken recipes: each has an error that a person can act on, at the right line."""

import pytest

from kdx.recipe import RecipeError, load

GOOD = """\
data: {use: digits, batch_size: 32}
student: {use: smallnet}
"""

# What is added to GOOD (from line 3 on), and the only problem that it makes.
ADDED = {
    "unknown key": ("epohcs: 3", "3: epohcs: unknown key. Did you mean 'epochs'? Known: accum"),
    "text for a number": ('epochs: "4"', "3: epochs: '4' is not an integer"),
    "bool for a number": ("clip: true", "3: clip: True is not a number"),
    "too small": ("epochs: 0", "3: epochs: 0 should be greater than or equal to 1"),
    "not a number": ("clip: .nan", "3: clip: nan should be a finite number"),
    "infinite": ("clip: 1e999", "3: clip: inf should be a finite number"),
    "long integer": (f"epochs: {'9' * 5000}", "3: epochs: inf is not an integer"),
    "choice": ("precision: fp8", "3: precision: 'fp8' is not 'no', 'bf16' or 'fp16'"),
    "number as name": ("name: 2024", "3: name: 2024 is not a string: put it in quotes"),
    "list for mapping": ("tolerance: [1]", "3: tolerance: [1] is not a mapping"),
    "nested key": (
        "tolerance: {float23: 1e-3}",
        "3: tolerance.float23: unknown key. Did you mean 'float32'? Known: float32, float64",
    ),
    "memo without views": (
        "teacher: {use: recipe_plugin.Net, memo: {dtype: float32}}",
        "3: teacher.memo.views: is missing",
    ),
    "no views": (
        "teacher: {use: recipe_plugin.Net, memo: {views: 0}}",
        "3: teacher.memo.views: 0 should be greater than or equal to 1",
    ),
    "memo of another precision": (
        "teacher: {use: recipe_plugin.Net, memo: {views: 1, dtype: float8}}",
        "3: teacher.memo.dtype: 'float8' is not 'float16' or 'float32'",
    ),
    "memo without room": (
        "teacher: {use: recipe_plugin.Net, memo: {views: 1, limit: 0}}",
        "3: teacher.memo.limit: 0 should be greater than 0",
    ),
    "unknown key of a memo": (
        "teacher: {use: recipe_plugin.Net, memo: {views: 1, topk: 5}}",
        "3: teacher.memo.topk: unknown key. Did you mean 'top'? Known: directory, dtype, limit",
    ),
    "unknown key of the memo of one of several teachers": (
        "teachers: {big: {use: recipe_plugin.Net, memo: {views: 1, topk: 5}}}",
        "3: teachers.big.memo.topk: unknown key. Did you mean 'top'? Known: directory, dtype",
    ),
    "text for section": ("teacher: net", "3: teacher: 'net' is not a mapping"),
    "text for component": ("optimizer: SGD", "optimizer: 'SGD' is not a mapping"),
    "mapping for list": ("losses: {use: kd}", "3: losses: {'use': 'kd'} is not a list"),
    "no losses": ("losses: []", "3: losses: has 0 entries, but needs at least 1"),
    "no use": ("losses: [{weight: 1}]", "3: losses[0].use: is missing: the name of the loss"),
    "use is a number": ("schedule: {use: 3}", "3: schedule.use: 3 is not the name of a schedule"),
    "unknown loss": (
        "losses:\n  - use: kd\n  - use: kdd",
        "5: losses[1].use: 'kdd' is not a loss. Did you mean 'kd'? "
        "Known: cross_entropy, hint, kd, pkt",
    ),
    "unknown optimizer": (
        "optimizer: {use: sgd, lr: 0.1}",
        "3: optimizer.use: 'sgd' is not an optimizer. Did you mean 'SGD'? Known: ASGD, Adadelta",
    ),
    "bare transform": (
        "student: {use: smallnet, transforms: [{use: expandnet}]}",
        "'expandnet' is not a transform. Did you mean 'expand.ExpandNet'?",
    ),
    "unknown argument": (
        "losses: [{use: kd, temprature: 4}]",
        "3: losses[0].temprature: unknown argument. Did you mean 'temperature'? Known: layer",
    ),
    "misspelt own key": (
        "losses: [{use: kd, wieght: 4}]",
        "3: losses[0].wieght: unknown argument. Did you mean 'weight'?",
    ),
    "argument of another type": (
        'losses: [{use: kd, temperature: "4"}]',
        "3: losses[0].temperature: '4' is not a number",
    ),
    "argument of no type of a union": (
        "student: {use: smallnet, transforms: [{use: recipe_plugin.Blur, rate: 1, select: 3}]}",
        "student.transforms[0].select: 3 is not a string: put it in quotes, or 3 is not a list",
    ),
    "missing argument": ("schedule: {use: multistep}", "3: schedule.milestones: is missing"),
    "no learning rate": ("optimizer: {use: Adam}", "3: optimizer.lr: is missing"),
    "negative rate": ("optimizer: {use: SGD, lr: -1}", "3: optimizer.lr: -1 should be greater t"),
    "rate as text": ("optimizer: {use: SGD, lr: fast}", "3: optimizer.lr: 'fast' is not a numb"),
    "provided": ("optimizer: {use: SGD, lr: 1, params: []}", "3: optimizer.params: unknown arg"),
    "terms of one name": (
        "losses: [{use: kd, name: a}, {use: pkt, name: a}]",
        "3: losses: two terms are named 'a'",
    ),
    "stages of one name": (
        "stages: [{name: a}, {name: a}]",
        "3: stages: two stages are named 'a'",
    ),
    "stage key": (
        "stages:\n  - epochs: 2\n    lr: 3",
        "5: stages[0].lr: unknown key. Known: epochs, losses, name, optimizer, phase, schedule",
    ),
    "phase without transforms": (
        "stages: [{phase: nonlinear}]",
        "3: stages[0].phase: phase 'nonlinear' but the student has no transforms",
    ),
    "best of nothing": ("select: best", "3: select: 'best' needs `data.validation`, images to"),
    "recipe without weights": (
        "teacher: {use: smallnet, recipe: ../plugins/recipe_plugin.py}",
        "3: teacher.recipe: needs `weights:`, the run directory that it fills",
    ),
    "recipe is absent": (
        "teacher: {use: smallnet, weights: runs/t, recipe: other.yaml}",
        "3: teacher.recipe: 'other.yaml' does not exist: looked for",
    ),
    "recipe is itself": (
        "teacher: {use: smallnet, weights: runs/t, recipe: plain.yaml}",
        "3: teacher.recipe: 'plain.yaml' is this recipe itself",
    ),
    "std of nothing": (
        "teacher: {use: smallnet, input: {mean: [0.5], std: [0]}}",
        "3: teacher.input.std[0]: 0 should be greater than 0",
    ),
    "mean and std of other lengths": (
        "teacher: {use: smallnet, input: {mean: [0, 0, 0], std: [1, 1]}}",
        "3: teacher.input: 3 means, but 2 stds: give one of each per channel",
    ),
    "epochs of no stage": (
        "epochs: 3\nstages: [{epochs: 2}, {epochs: 4}]",
        "3: epochs: unused, since every stage sets its own: set stages.0.epochs=..., stages.1",
    ),
    "key of a teacher's input": (
        "teacher: {use: smallnet, input: {mena: [0.5]}}",
        "3: teacher.input.mena: unknown key. Did you mean 'mean'? Known: mean, size, std",
    ),
    "duplicate": ("seed: 1\nseed: 2", "4: seed: duplicate key, first on line 3"),
    "number as key": ("3: 4", "3: 3: key 3 is not a string: put it in quotes"),
    "merge key": ("<<: 3", "3: '<<': merge keys are not supported: write the keys out"),
    "list as key": ("[1]: 3", "3: a key must be a string, not a list, mapping or alias"),
    "anchor": ("seed: &s 1", "3: seed: anchors (&s) are not supported: write the value out"),
    "alias": ("seed: *s", "3: seed: aliases (*s) are not supported: write the value out"),
    "tag": ("seed: !!int 1", "3: seed: tags (tag:yaml.org,2002:int) are not supported: leave"),
    "second document": ("---\na: 1", "3: a second YAML document: a recipe is one"),
    "deep": (f"stages: {'[' * 100}", "3: nested deeper than 32"),
    "deeper than the stack": (f"stages: {'[' * 60_000}", "3: nested deeper than 32"),
    "unclosed": ("seed: [1, 2", "4: not YAML: expected ',' or ']', but got '<stream end>'"),
    "tab": ("seed:\n\t1", "4: not YAML: found character '\\t' that cannot start any token"),
    "control character": ("name: a\x07", "3: not YAML: character '\\x07' is not allowed"),
    "surrogate": ('name: "\\ud800"', "3: invalid characters: '\\ud800'"),
    "impossible character": ('name: "\\UFFFFFFFF"', ": not YAML: "),
}


@pytest.mark.parametrize(("added", "expected"), ADDED.values(), ids=ADDED.keys())
def test_a_broken_recipe_has_one_problem_that_says_what_to_do(write, added, expected):
    kept = [line for line in GOOD.splitlines() if not added.startswith(line.split()[0])]
    path = write("\n".join(kept) + "\n" + added + "\n")
    with pytest.raises(RecipeError) as raised:
        load(path, plugins=["recipe_plugin"])
    assert len(raised.value.problems) == 1
    text = str(raised.value)
    assert text.startswith(f"{path}:")
    assert expected in text
    assert "\n" not in text


def test_six_problems_are_reported_at_once_in_the_order_of_the_file(write):
    path = write(
        "data:\n"
        "  use: digit\n"
        "  batch_size: many\n"
        "student: {use: smallnet, width: wide}\n"
        "losses:\n"
        "  - {use: kd, weight: -1}\n"
        "  - use: os.system\n"
        "    weight: 1\n"
        "epohcs: 3\n"
        "epochs: 3\n"
    )
    with pytest.raises(RecipeError) as raised:
        load(path, ["epochs=abc"])
    starts = [str(problem).split(": ")[:2] for problem in raised.value.problems]
    assert starts == [
        [f"{path}:2", "data.use"],
        [f"{path}:3", "data.batch_size"],
        [f"{path}:4", "student.width"],
        [f"{path}:6", "losses[0].weight"],
        [f"{path}:7", "losses[1].use"],
        [f"{path}:9", "epohcs"],
        ["override 'epochs=abc'", "epochs"],
    ]
    assert len(str(raised.value).splitlines()) == 7


FILES = {
    "empty": (b"", "the file is empty: a recipe is a mapping, with `data:` and `student:`"),
    "comments": (b"# nothing\n", "the file is empty"),
    "list": (b"- 1\n", "the file contains [1]: a recipe is a mapping"),
    "text": (b"hello\n", "the file contains 'hello': a recipe is a mapping"),
    "latin-1": (b"seed: 1\nname: \xe9\n", "plain.yaml:2: not UTF-8"),
    "large": (b"#" * 2_000_000, "larger than 64 kB: a recipe is about twenty lines"),
    "two sections missing": (b"seed: 1\n", "data: is missing\n"),
}


@pytest.mark.parametrize(("content", "expected"), FILES.values(), ids=FILES.keys())
def test_a_file_that_is_no_recipe(write, content, expected):
    with pytest.raises(RecipeError) as raised:
        load(write(content))
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent.yaml", r"No such file or directory$"), ("", "Is a directory"), ("a\0b", "null byte")],
)
def test_a_file_that_cannot_be_read(tmp_path, name, reason):
    with pytest.raises(RecipeError, match=f"cannot be read: .*{reason}"):
        load(tmp_path / name)


def test_a_missing_file_names_the_nearest_beside_it(write):
    path = write("data: {use: digits}\n")
    wrong = path.with_name(f"{path.stem}s.yaml")
    with pytest.raises(RecipeError, match=rf"directory\. Did you mean '{path.name}'\?"):
        load(wrong)
