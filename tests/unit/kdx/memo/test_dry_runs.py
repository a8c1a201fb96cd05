"""What a dry run says of a memo, and charges for it."""

import pytest

from kdx.commands.plan import dry_run
from kdx.commands.trials import trials
from kdx.memo.use import plan_memos
from kdx.run.run import run
from tests.unit.kdx.memo.test_training import memos


def test_a_dry_run_shows_the_memo_and_writes_nothing(guided, console, tmp_path):
    recipe = guided()
    dry_run(recipe, console)
    assert not (tmp_path / "runs").exists()
    run(recipe, console)
    dry_run(recipe, console)
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("memo: ")]
    assert lines[0].startswith("memo: 64 samples x 2 views x (10 logits) in float16: 3.1 kB of at")
    assert [line.partition("; ")[2] for line in lines] == ["0% filled", "50% filled"]


def test_a_dry_run_has_a_line_for_each_price(guided, console):
    dry_run(guided("epochs=5"), console)
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    first = next(number for number, row in enumerate(rows) if row[:1] == ["train"])
    assert [row[:5] for row in rows[first : first + 4 : 2]] == [
        ["train", "1", "kd", "2", "8"], ["train", "1", "kd", "3", "12"]]  # fmt: skip
    assert rows[first + 1 : first + 4 : 2] == [["+", "teacher"], ["+", "memo"]]


@pytest.fixture
def quoted(loop_of):
    """Return a function: a recipe to the epochs and steps that each kind of step is quoted for."""

    def quoted(recipe):
        runtime = loop_of(recipe)
        found = trials(runtime, plan_memos(runtime))
        return [(t.stage.name, t.source, round(t.epochs, 3), t.steps) for t in found]

    return quoted


def test_a_dry_run_quotes_the_teacher_for_the_views_that_the_memo_lacks(guided, console, quoted):
    run(guided("epochs=1", name="first"), console)
    assert quoted(guided("epochs=9")) == [("train", "teacher", 1, 4), ("train", "memo", 8, 32)]
    run(guided("epochs=2", name="again"), console)
    assert quoted(guided("epochs=9")) == [("train", "memo", 9, 36)]
    assert quoted(guided("epochs=9", "teacher.memo=null")) == [("train", "", 9, 36)]


def test_a_dry_run_quotes_a_part_of_a_view(guided, console, quoted, tmp_path):
    run(guided("epochs=2", name="first"), console)
    (memo,) = memos(tmp_path)
    checks = (memo / "logits.checks").read_bytes()
    (memo / "logits.checks").write_bytes(bytes(4 * 16) + checks[64:])
    assert quoted(guided("epochs=3"))[0] == ("train", "teacher", 0.25, 1)
    (memo / "logits.checks").write_bytes(bytes(4 * 2) + checks[8:])  # not worth a line
    assert quoted(guided("epochs=3"))[0][1:3] == ("memo", 2.969)


def test_a_dry_run_quotes_every_stage_by_the_views_that_it_shows_first(guided, quoted):
    plain = "{epochs: 1, losses: [{use: cross_entropy}]}"
    stages = f"stages=[{plain}, {{name: one, epochs: 1}}, {{name: two, epochs: 3}}]"
    assert quoted(guided(stages)) == [
        ("stage1", "", 1, 4),
        ("one", "teacher", 1, 4),
        ("two", "teacher", 1, 4),
        ("two", "memo", 2, 8),
    ]


def test_a_dry_run_quotes_a_filled_memo_without_the_teacher(guided, loop_of, asked):
    """Which is asked in the warm-up alone; the recipe's smaller last batch is one more."""
    runtime = loop_of(guided("epochs=5", "data.limit=58"))
    steps = trials(runtime, plan_memos(runtime))
    asked.clear()
    assert next(steps).source == "teacher"
    assert asked == [16, 16, 16, 10, 16, 16]
    asked.clear()
    assert next(steps).source == "memo"
    assert asked == [16, 10]


def test_a_dry_run_without_a_teacher_yet(guided, recipe, console, tmp_path):
    recipe(name="first")  # writes first.yaml
    absent = ("teacher.weights=runs/digits/first", "teacher.recipe=first.yaml")
    dry_run(guided(*absent), console)
    said = "memo: 64 samples x 2 views x (10 logits) in float16, once there is a teacher\n"
    assert said in console.file.getvalue()


def test_views_that_recur_often_are_noted(guided, loop_of):
    def notes(*overrides: str) -> list[str]:
        said: list[str] = []
        plan_memos(loop_of(guided(*overrides)), said.append)
        return said

    assert notes("epochs=20") == []
    assert notes("epochs=25") == [
        "teacher.memo.views: 2: each view is seen about 12 times in 25 epochs, which may "
        "cost accuracy if images are few: try more, such as 3"
    ]
    assert notes("epochs=25", "data.repeats=2", "teacher.memo.views=1") == []  # must be one
    assert notes("epochs=25", "data.augment={}") == []  # all views are the same
